"""Which method, which n, which beta, which threshold: evaluation, report and calibration over jobs of the real queue.

Read next: ``records.py`` (what is kept of a job), then ``runner.py`` (how jobs are run).
"""
