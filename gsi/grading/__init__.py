"""Whether two answers are equal: for majority vote (coordinator) and for grading (evaluation).

Only ``mathematics.py`` imports math-verify, and with it sympy. The coordinator runs it in a child process.
Read next: ``notation.py`` (answers as text), ``answers.py`` (value, unit and choice), ``equality.py`` (the child
process), ``graders.py`` (grading).
"""
