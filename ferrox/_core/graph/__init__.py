"""The graph: operators, nodes, what they save, and backward."""
