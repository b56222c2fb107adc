"""The engines that run a model in this process with PyTorch and Hugging Face ``transformers``.

Read next: ``language.py`` (draft and target), then ``reward.py`` (PRM).
"""
