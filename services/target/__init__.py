"""The target service: the large model pi_B scores candidates, and writes a step anew. Read next: ``servicer.py``."""
