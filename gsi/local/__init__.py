"""The whole system on one machine: an embedded Redis-protocol server, the services as child processes, and the demo.

For laptops, demos and tests; production runs each process by itself. Read next: ``stack.py``.
"""
