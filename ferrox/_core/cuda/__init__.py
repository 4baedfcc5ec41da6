"""The CUDA wing."""
