"""The engines that run a model in this process with PyTorch and Hugging Face ``transformers``.

They are the reference for other engines, and slow: one forward pass at a time, on one thread. Read next: ``prefix.py``,
which both stand on, then ``language.py`` (draft and target) and ``reward.py`` (PRM).
"""
