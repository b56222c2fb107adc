"""What every process needs to live: settings, logging, metrics endpoint, signals; and the embedded Redis server.

No algorithm and no contracts here. Read next: ``settings.py``.
"""
