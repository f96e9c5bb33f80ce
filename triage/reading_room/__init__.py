"""A reader study at a browser: blinded, crossed, resumable."""
