"""The PRM service: the process reward model, r, rates candidates. Read next: ``servicer.py``."""
