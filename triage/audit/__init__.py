"""The audit's statistics: arrays in, numbers out; no I/O, no clock, no settings."""
