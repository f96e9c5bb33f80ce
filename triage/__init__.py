"""The service: orders and studies in, a reordered worklist and preliminary results out."""
