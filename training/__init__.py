"""How the small family in `models/` is made: one seed in, a draft, a target and a PRM out (`python -m training`).

It is no part of the serving system: nothing in `gsi` or `services` imports it. From `gsi` it takes only the PRM's
class. Start with `task.py` (what is learned) and `recipe.py` (every number), then `__main__.py` (the order of work).
"""
