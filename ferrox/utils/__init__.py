"""Helpers around training: data loading and hook handles."""
