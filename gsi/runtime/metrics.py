"""The ``/metrics`` endpoint, and the series of every process: RPC times, GPU utilization and memory."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pynvml
import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server
from prometheus_client.core import REGISTRY, GaugeMetricFamily
from prometheus_client.registry import Collector

from gsi.runtime.series import Series

log = structlog.get_logger()

# From a small model on a CPU (1 ms) to a step of 512 tokens on a loaded GPU (a minute), in factors of about 2.
SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
ROLES = ("draft", "target", "prm")
SERVICES = ("DraftService", "TargetService", "PrmService")
METHODS = ("GetModelInfo", "RenderPrompt", "Propose", "Score", "Judge")

rpc_series = Series()
RPC_SECONDS = rpc_series.histogram(
    "gsi_rpc_seconds",
    "Time of a call; of a stream, from its first to its last message. Health checks are not counted.",
    "seconds",
    {"service": SERVICES, "method": METHODS, "code": "the gRPC status code's name"},
    buckets=SECONDS_BUCKETS,
)

gpu_series = Series()
_GPU = {"gpu": "the GPU's index on its machine", "uuid": "the GPU's UUID, which no other machine has"}
GPU_UTILIZATION = gpu_series.declare(
    "gsi_gpu_utilization_ratio",
    "gauge",
    "Share of NVML's last sample period in which the GPU was busy.",
    "0 to 1",
    _GPU,
)
GPU_MEMORY = gpu_series.declare(
    "gsi_gpu_memory_bytes", "gauge", "Memory of the GPU that is in use by any process.", "bytes", _GPU
)
GPU_MEMORY_TOTAL = gpu_series.declare(
    "gsi_gpu_memory_total_bytes", "gauge", "Memory of the GPU, in use or free.", "bytes", _GPU
)


class GpuCollector(Collector):
    """Asks NVML at each scrape how busy each GPU of this machine is, and how much of its memory is in use."""

    def __init__(self) -> None:
        pynvml.nvmlInit()
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        self._gpus = [([str(index), pynvml.nvmlDeviceGetUUID(gpu)], gpu) for index, gpu in enumerate(gpus)]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        utilization, used, total = (
            GaugeMetricFamily(series.name, series.meaning, labels=list(series.labels))
            for series in (GPU_UTILIZATION, GPU_MEMORY, GPU_MEMORY_TOTAL)
        )
        for labels, gpu in self._gpus:
            memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
            used.add_metric(labels, memory.used)
            total.add_metric(labels, memory.total)
            with suppress(pynvml.NVMLError_NotSupported):  # a GPU that is divided by MIG has no utilization
                utilization.add_metric(labels, pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)
        yield from (utilization, used, total)


def serve_metrics(listen: str, registry: CollectorRegistry = REGISTRY) -> int:
    """Serve ``/metrics`` on host:port in a thread, with the series of GPUs if there are any; return the port."""
    try:
        registry.register(GpuCollector())
    except pynvml.NVMLError as error:
        log.info("no GPU metrics: gsi_gpu_* are absent", reason=str(error))
    host, _, port = listen.rpartition(":")
    server, _thread = start_http_server(int(port), host, registry)
    server.set_app(_answer_as_text(make_wsgi_app(registry)))
    bound: int = server.server_port
    log.info("metrics", address=f"{host}:{bound}")
    return bound


def _answer_as_text(application: WSGIApplication) -> WSGIApplication:
    """Answer every scraper in Prometheus's text format, also a scraper that asks for OpenMetrics.

    In OpenMetrics, which Prometheus 2 asks for, the client library writes vLLM's series as ``vllm_…`` instead of
    ``vllm:…``, and no query finds them (github.com/prometheus/client_python, issue 1177).
    """

    def answer(environment: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return application({**environment, "HTTP_ACCEPT": "text/plain"}, start_response)

    return answer
