"""When two answers are the same: for majority vote (coordinator) and for grading (evaluation)."""
