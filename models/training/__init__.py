"""Data, loops, evaluation and figures; never imported by the service."""
