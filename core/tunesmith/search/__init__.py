"""Searching settings: a space of values, trials that are ordinary runs, and what they came to."""
