"""The draft service: the small model, pi_S, proposes candidate steps. Read next: ``servicer.py``."""
