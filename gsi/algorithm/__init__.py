"""The rules: Algorithm 1 of the GSI paper, pure, over the standard library only.

Nothing here knows of models, sockets or Redis; what a step needs from outside comes through ``ports``.
Read next: ``step.py`` (one step), then ``generate.py`` (the loop around it).
"""
