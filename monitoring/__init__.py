"""What is watched: the Grafana boards as code, and the check that every query of theirs has an answer.

Limits: no Grafana runs here, so what a board looks like in one is not tested; what it asks of Prometheus is. The alerts
are plain rules in ``helm/alerts/rules.yaml``. Read first: ``board.py``, then ``speculation_board.py``.
"""
