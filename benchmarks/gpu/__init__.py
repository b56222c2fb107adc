"""What only a GPU can say, in one run: ``make gpu``, or ``python -m benchmarks.gpu --json``.

The run has parts. Each is a process with a time limit and writes its figures as it goes, so that a part that fails or
is too slow loses neither its own figures nor those of the others. Nothing is downloaded: the models have the paper's
sizes and random weights, which vLLM makes on the GPU, and a tokenizer made here. All parts together take at most 25
minutes.

Limits: random weights say what a pass costs, not how good an answer is or how many steps are accepted.

Read ``parts.py`` (the list), ``system.py`` (what is measured on a running system), then ``figures.py`` (goals).
``--rehearse`` runs the same program on a CPU with tiny models; its figures are no results.
"""
