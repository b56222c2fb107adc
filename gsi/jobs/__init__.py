"""The job in Redis: what it is (``job``), how it lives (``state``), where it is kept (``keys``).

A queue has four sides: ``submitter``, ``writer`` (a coordinator under its lease), ``reader`` and ``admin``; ``stream``
delivers jobs to coordinators. Only this package imports redis. Delivery is at least once, a result exactly once, and a
crash costs at most the step in flight. Read next: ``state.py``, then ``writer.py``.
"""
