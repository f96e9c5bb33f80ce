"""The whole service on one machine with sample radiographs, from one command."""
