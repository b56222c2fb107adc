"""The SDK: submit jobs, follow them, read their results. ``from gsi import Client, AsyncClient``.

It knows Redis through ``gsi.jobs`` and nothing of the models. Read next: ``sdk.py``, then ``blocking.py``.
"""
