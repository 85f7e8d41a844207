"""From rows to token ids and masks."""
