"""The coordinator: takes jobs from Redis and runs the step protocol over the three services.

It holds no model, no torch and no tokenizer. Read next: ``worker.py`` (many jobs), then ``runner.py`` (one job).
"""
