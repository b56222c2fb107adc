"""When two answers are the same: for majority vote (coordinator) and for grading (evaluation).

Only ``mathematics.py`` imports math-verify, and with it sympy: the coordinator asks it in a process of its own.
Read next: ``notation.py`` (answers as text), ``equality.py`` (asking), ``graders.py`` (grading).
"""
