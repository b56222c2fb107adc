"""The engines that run a model in this process with PyTorch and Hugging Face ``transformers``.

They are the reference for other engines: simple, and slower than those on a GPU. One thread per model makes one forward
pass at a time, for all requests that wait. Read next: ``prefix_model.py``, which both engines stand on, then
``language.py`` (draft and target) and ``reward.py`` (PRM); requests share by ``model_thread.py`` and ``passes.py``.
"""
