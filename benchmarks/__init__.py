"""Measurements. Each writes its part of ``RESULTS.md``; none of them is a test."""
