"""Adapters to model runtimes, one folder for each: ``on_transformers`` and ``on_vllm``.

An engine knows nothing of gRPC or Redis. Only a runtime's own folder, and ``hugging_face``, import that runtime, and
the registry imports a folder only when its engine is chosen. Read next: ``base.py``, then ``registry.py``.
"""
