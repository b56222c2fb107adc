"""What runs inside vLLM's own processes: its scheduler reads it, its workers load it.

vLLM finds it by names that ``core.py`` gives, and by the entry point ``vllm.general_plugins`` of this
package. Read next: ``scheduler.py``, which makes scoring cost a candidate's tokens instead of its context's.
"""
