"""Operators.  Importing the modules of this folder fills the registry; `ferrox/_core/face.py` hands it out."""
