"""The ``/metrics`` endpoint, and the series that every process has: RPC times, GPU utilisation and memory."""

from collections.abc import Iterator

import pynvml
import structlog
from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import REGISTRY, GaugeMetricFamily
from prometheus_client.registry import Collector

log = structlog.get_logger()

# From a small model on a CPU (1 ms) to a step of 512 tokens on a loaded GPU (a minute); a factor of about 2.
SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)

RPC_SECONDS = Histogram(
    "gsi_rpc_seconds",
    "Time of an RPC in seconds: of the server in a model service, of the caller in the coordinator.",
    ["service", "method", "code"],
    buckets=SECONDS_BUCKETS,
)


class GpuCollector(Collector):
    """Asks NVML at each scrape: how busy is each GPU of this machine, and how much of its memory is used?"""

    def __init__(self) -> None:
        pynvml.nvmlInit()
        self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        utilization = GaugeMetricFamily(
            "gsi_gpu_utilization_ratio", "Share of the last sample period in which the GPU was busy.", labels=["gpu"]
        )
        memory = GaugeMetricFamily("gsi_gpu_memory_bytes", "Memory of the GPU in use.", labels=["gpu"])
        for index, gpu in enumerate(self._gpus):
            utilization.add_metric([str(index)], pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)
            memory.add_metric([str(index)], pynvml.nvmlDeviceGetMemoryInfo(gpu).used)
        yield from (utilization, memory)


def serve_metrics(listen: str, registry: CollectorRegistry = REGISTRY) -> int:
    """Serve ``/metrics`` on host:port in a thread, with the GPU's series where there is a GPU; return the port."""
    try:
        registry.register(GpuCollector())
    except pynvml.NVMLError as error:
        log.info("no GPU metrics: gsi_gpu_* are absent", reason=str(error))
    host, _, port = listen.rpartition(":")
    server, _thread = start_http_server(int(port), host, registry)
    bound: int = server.server_port
    log.info("metrics", address=f"{host}:{bound}")
    return bound
