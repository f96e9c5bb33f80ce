"""Pixels to probabilities, usable from a notebook."""
