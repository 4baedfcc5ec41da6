"""What makes the class ferrox.Tensor whole: above the operators."""
