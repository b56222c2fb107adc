"""What the engines of both runtimes need from Hugging Face ``transformers``; it loads no weights.

``tokenizer.py``: tokenizer and chat template. ``reward_families.py``: how a reward model reads a trajectory.
``parameter_count.py``: the size of a model, which a report turns into FLOPs.
"""
