"""The rules of ``gsi.algorithm``: ``test_paper.py`` against the paper's equations, then one file per module."""
