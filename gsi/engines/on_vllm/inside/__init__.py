"""Code that runs inside vLLM's own processes: its scheduler and its workers load it.

vLLM finds the code by the names that ``core.py`` and ``language.py`` give, and by the entry point
``vllm.general_plugins`` of this package. Nothing here may import gRPC or Redis. Read next: ``scheduler.py``, by which
a score costs the tokens of a candidate and not those of its context.
"""
