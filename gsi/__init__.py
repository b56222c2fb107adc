"""Guided Speculative Inference (GSI) as a system: the library.

No process starts here (see ``services/``) and importing ``gsi`` imports nothing.
Read next: ``docs/lifecycle.md``, then ``gsi/algorithm/methods/gsi.py``.
"""
