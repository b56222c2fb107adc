"""The command ``gsi``: a module for each group of subcommands, over the SDK (``gsi.client``).

Answers go to standard output, everything else to standard error. Read next: ``main.py``.
"""
