"""Ask a process how it is: ``python -m gsi.rpc.health_check HOST:PORT [NAME]``.

For who can run a command but speaks no gRPC, such as Compose. Names are those of ``health.py``; without one it is
asked whether the process takes calls.
"""

import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3.0


def is_serving(address: str, name: str = "") -> bool:
    """Return whether the process that answers in plain text at host:port says SERVING of ``name``. Never raises."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(not is_serving(*sys.argv[1:]))
