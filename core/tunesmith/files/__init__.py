"""Files: what is written, read and told apart on the disk."""
