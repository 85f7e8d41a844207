"""What a model and its training will take."""
