"""Batches: a file of requests, answered in a file."""
