"""The Grafana boards as code, and a check that each of their queries has an answer.

No Grafana runs here: the check covers the boards' queries to Prometheus, not their look. The alerts are plain rules in
``helm/alerts/rules.yaml``. Read ``board.py`` first, then ``speculation_board.py``.
"""
