"""Adapters to model runtimes, one folder for each runtime: ``on_transformers`` and ``on_vllm``, and ``on_remote``
for model servers that run already.

An engine loads one model and answers for it. It knows neither gRPC nor Redis. A runtime is imported only in its own
folder and in ``hugging_face``, which holds what both need of Hugging Face; the registry imports a folder when an
engine of it is loaded. Read next: ``base.py``, then ``registry.py``.
"""
