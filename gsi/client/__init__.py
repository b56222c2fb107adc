"""What users hold: the SDK (``sdk.Client``) and the command ``gsi`` (``cli``).

It knows Redis through ``gsi.jobs`` and nothing of the models. Read next: ``sdk.py``.
"""
