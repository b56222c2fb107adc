"""``gsi check``: will these three models work together, and does each do its part of a step?

It asks the services and no queue; the command, ``gsi up --dry-run`` and the chart's test share it. It changes nothing.
Read next: ``services.py``, then ``docs/own-models.md``, which explains each finding.
"""
