"""The engines that run a model with vLLM, on one node or several.

``inside`` is code that vLLM loads into its own processes. Read next: ``language.py``, then ``core.py``.
"""
