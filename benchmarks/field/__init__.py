"""Every method on the shipped family in one run, and what of the papers' claims is seen here: ``make bench-field``.

Each method at each n answers the same problems through the real system in two passes: one job at a time, and at full
load. So seconds, tokens and accuracy of all methods are those of one machine in one run, and their ratios mean
something. A stopped run resumes where it left off.

| module | holds |
|---|---|
| ``methods.py`` | which rows are run: the methods of ``METHODS``, some in several variants |
| ``passes.py`` | how they are run, and for how long |
| ``figures.py`` | what is read from the records |
| ``claims.py`` and ``claims_of_….py`` | what the papers claim |
| ``tests_of_claims.py`` | how a claim is tested on the figures |
| ``plots.py``, ``report.py`` | two plots, and the section of ``RESULTS.md`` |
"""
