"""The compiled core.  Importing it loads the CPU backend and the operators, and makes the class Tensor whole."""
