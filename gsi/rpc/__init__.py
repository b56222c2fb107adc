"""gRPC on both sides of a call: ``clients.py`` makes the ports of a step from stubs, ``server.py`` serves an engine.

No model runtime and no Redis here. Errors cross the wire as status codes (``errors.py``), messages as dataclasses
(``convert.py``), a job's id and trace as metadata (``call_context.py``). Read next: ``clients.py``, then ``server.py``.
"""
