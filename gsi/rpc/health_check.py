"""Ask a process for its health: ``python -m gsi.rpc.health_check HOST:PORT [NAME]``. Exits 0 if it says SERVING.

For a supervisor that can run a command but has no gRPC, such as Compose. The names are those of ``health.py``; the
empty name, which is the default, asks whether the process takes calls.
"""

import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3.0


def is_serving(address: str, name: str = "") -> bool:
    """Return whether the process at host:port says SERVING for ``name``, in plain text. Never raises."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(not is_serving(*sys.argv[1:]))
