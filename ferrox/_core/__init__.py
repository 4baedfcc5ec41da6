"""The compiled core.  Importing it loads the CPU backend and the operators, and completes the Tensor class with them."""
