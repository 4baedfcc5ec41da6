"""Ferrox: reverse-mode automatic differentiation."""
