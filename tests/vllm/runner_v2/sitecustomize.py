"""Python imports this module when it starts: it gives Triton a backend for CPUs where Triton's interpreter is wanted.

The backend compiles nothing. The interpreter runs the kernels on the tensors where they are, in the host's memory.
"""

import os
from types import SimpleNamespace

if os.environ.get("TRITON_INTERPRET") == "1":
    from triton.backends import backends

    backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True), compiler=None)
