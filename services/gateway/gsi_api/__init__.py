"""``/gsi/v1``: what the web page asks for, and any other program may. Jobs, queues and evaluations as JSON.

The page itself is elsewhere. Read ``routes.py`` first.
"""
