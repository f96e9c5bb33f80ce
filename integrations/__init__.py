"""Peers, one folder per protocol: theirs to ours and ours to theirs."""
