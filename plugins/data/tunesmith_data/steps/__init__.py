"""Steps of data preparation. Each module holds one subject; settings are in `settings`."""
