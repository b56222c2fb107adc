"""The rules: Algorithm 1 of the GSI paper, pure, over the standard library only.

Nothing here knows of models, sockets or Redis: a step reaches the models through ``ports``.
Read next: ``methods/gsi.py`` (one step), then ``generate.py`` (the loop around it), then ``method.py``.
"""
