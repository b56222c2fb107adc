"""Trains the small family in `models/`: draft, target and PRM from one seed (`python -m training`).

It is not part of the serving system: nothing in `gsi` or `services` imports it, and it imports only the PRM's class
from `gsi`. Read `task.py` (the task) and `recipe.py` (every number) first, then `__main__.py` (the order of work).
"""
