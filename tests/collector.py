"""A real OTLP receiver: a gRPC server of OpenTelemetry's own contract that remembers every span it is sent."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class Received:
    """A span, its ids in hexadecimal digits, its times in nanoseconds since 1970."""

    process: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str  # empty: the root
    attributes: dict[str, Any]
    start: int
    end: int
    is_failed: bool


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What has arrived."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            process = _plain(resource.resource.attributes)["service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                self.spans.append(
                    Received(
                        process,
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        _plain(span.attributes),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == span.status.STATUS_CODE_ERROR,
                    )
                )
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def of_job(self, job_id: str) -> list[Received]:
        """Return all spans of the traces that a job's spans are in."""
        traces = {span.trace_id for span in self.spans if span.attributes.get("gsi.job") == job_id}
        return [span for span in self.spans if span.trace_id in traces]

    def children(self, parent: Received) -> list[Received]:
        return sorted((span for span in self.spans if span.parent_id == parent.span_id), key=lambda span: span.start)


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Receive traces on a free port."""
    received = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(received, server)  # type: ignore[no-untyped-call]
    received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield received
    finally:
        await server.stop(grace=None)


def _plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in attributes}
