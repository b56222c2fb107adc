"""The job in Redis: what it is (``job``), how it lives (``state``), where it is kept (``keys``, ``store``, ``stream``).

The only package that imports redis. At-least-once delivery, exactly-once result, and a crash costs at most the step
in flight. Read next: ``state.py``, then ``store.py``.
"""
