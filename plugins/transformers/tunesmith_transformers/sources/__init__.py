"""The places that a model can come from."""
