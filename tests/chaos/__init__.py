"""What the queue promises, while things break: seeded faults against real processes, a real server, real models.

``make chaos`` runs every row in full (at most 40 minutes), ``make test`` a short form (about two minutes). Faults are
only ever done to processes that the harness has started, by their ids, and to connections on loopback.
Read next: ``harness.py`` (the stack), then a row, say ``kills.py``. Each row ends with ``gsi queue check``.
"""
