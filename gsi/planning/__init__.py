"""What speculation costs and gains on GPUs, from first principles: ``gsi plan``.

A forward pass takes as long as the slower of two things: reading its bytes (memory-bandwidth-bound) and doing its FLOPs
(compute-bound), and a fixed overhead. This is the roofline. Everything else is counting: which passes a step of
each method makes, which of them wait for others, and how many jobs share them. No model is loaded and nothing is
measured here.

Limits: dense decoder-only transformers; tensor parallelism scales without loss; a network costs nothing.

Read ``phases.py`` (a pass), ``calls.py`` and ``parts.py`` (what a step of each method asks of which model, and in which
parts), ``steps.py`` and ``systems.py`` (how long it takes, by the paper's system and by ours), then
``docs/performance.md``.
"""
