"""Tests of the audit's statistics against known answers."""
