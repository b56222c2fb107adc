"""Measurements. Each module writes its section of ``RESULTS.md`` or prints JSON; none is a test."""
