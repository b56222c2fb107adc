"""The whole system on one machine: an embedded Redis-protocol server, the processes as children, and the demo.

For laptops, demos and tests; in production each process runs by itself. Read next: ``stack.py``.
"""
