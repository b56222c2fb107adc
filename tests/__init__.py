"""The tests. Start with ``fundamentals/``; ``algorithm/test_paper.py`` holds the paper's equations."""
