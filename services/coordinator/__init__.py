"""The coordinator: it takes jobs from Redis and makes their steps with the three services.

It has no model and no tokenizer, and does not import torch. Read next: ``worker.py`` (many jobs), then ``runner.py``
(one job).
"""
