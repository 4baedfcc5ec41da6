"""Tensors without operators: the struct, its values, memory shared with others, the random stream."""
