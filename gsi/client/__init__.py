"""The SDK: submit jobs, follow them, read their results.

It knows Redis through ``gsi.jobs`` and nothing of the models. Read next: ``sdk.py``.
"""
