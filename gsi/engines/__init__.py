"""Adapters to model runtimes, behind two interfaces (``base.py``) and chosen by name (``registry.py``).

They know nothing of gRPC or Redis; only ``*_engine.py`` and ``*_reward.py`` import a runtime, and only when chosen.
Read next: ``base.py``, then ``transformers_engine.py``.
"""
