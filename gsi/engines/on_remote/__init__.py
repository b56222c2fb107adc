"""The engines that ask a model server which somebody else runs, over HTTP: vLLM, SGLang, llama.cpp's server.

The server has the weights. The tokenizer is read here, from ``GSI_<ROLE>_MODEL``, because GSI compares token ids, not
texts. What a server can report is measured when the engine is loaded (``probing.py``); what it cannot report is
refused with a sentence. Limits: no nucleus and no temperature but 1 with likelihood "sampling". Read next:
``model_server.py``, which says what is asked of a server, then ``language.py`` and ``reward.py``.
"""
