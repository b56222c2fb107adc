"""What every process has: settings, log, traces, metrics endpoint, TLS files and signals.

It contains no algorithm and no contracts. Read next: ``settings.py``.
"""
