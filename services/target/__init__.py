"""The target service: the large model, pi_B, scores candidates and proposes steps. Read next: ``servicer.py``."""
