"""The library's side of gRPC: stubs become ports (``clients``), errors become status codes (``errors``) and back.

No model and no Redis here. Read next: ``clients.py``, then ``server.py``.
"""
