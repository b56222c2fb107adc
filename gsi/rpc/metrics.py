"""The series of a model service: its calls in flight, whether it is ready, and its model."""

from gsi.model_info import ModelInfo
from gsi.runtime.metrics import ROLES, SERVICES
from gsi.runtime.series import Series

PACKAGE = "gsi.v1."

series = Series()
RPCS_IN_FLIGHT = series.gauge(
    "gsi_rpcs_in_flight",
    "Calls that are in flight at the service, including calls that it is about to refuse.",
    "calls",
    {"service": SERVICES},
    is_sparse=True,
)
RPC_LIMIT = series.gauge(
    "gsi_rpc_limit",
    "How many calls the service serves at once (`GSI_<ROLE>_MAX_CONCURRENT_RPCS`). It refuses further calls and says "
    "when to call again.",
    "calls",
    {"service": SERVICES},
    is_sparse=True,
)
READY = series.gauge(
    "gsi_ready",
    "1 while the health service says SERVING. 0 while the model loads, while calls drain, and after the engine died.",
    "0 or 1",
    {"service": SERVICES},
    is_sparse=True,
)
MODEL_INFO = series.info(
    "gsi_model_info",
    "Always 1 once the model is loaded; the labels name the model.",
    {
        "role": ROLES,
        "model": "the model's name, one per process",
        "revision": "the model's revision, one per process",
        "engine": "transformers or vllm",
        "engine_version": "the engine's version, one per process",
    },
)


def short_name(grpc_service: str) -> str:
    """Return the value of the label ``service``: the name of a gRPC service without its package."""
    return grpc_service.removeprefix(PACKAGE)


def observe_start(grpc_service: str, max_concurrent_rpcs: int) -> None:
    """Set the series of a service that has just started."""
    service = short_name(grpc_service)
    RPC_LIMIT.labels(service).set(max_concurrent_rpcs)
    RPCS_IN_FLIGHT.labels(service)
    READY.labels(service)


def observe_model(grpc_service: str, model: ModelInfo) -> None:
    """Set the series that names the loaded model."""
    role = short_name(grpc_service).removesuffix("Service").lower()
    MODEL_INFO.tell(
        role=role,
        model=model.model,
        revision=model.revision,
        engine=model.engine,
        engine_version=model.engine_version,
    )
