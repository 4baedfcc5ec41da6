"""The door: backends, the call of a kernel, its placement, and what watches it."""
