"""The engines that run a model with vLLM, on one node or on several.

vLLM is imported here and nowhere else, and only once ``environment.py`` has set its variables. ``inside`` is code that
vLLM loads into its own processes. Read next: ``suffix_scoring.py``, whose first page says why scoring is cheap, then
``language.py``, ``core.py``, and ``nodes.py`` for an engine over several nodes.
"""
