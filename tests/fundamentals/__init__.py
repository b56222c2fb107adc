"""Start here: one concept a file, read in the order of their numbers. The models they use are in ``tiny.py``."""
