"""What the service is about: no I/O, no clock, no settings."""
