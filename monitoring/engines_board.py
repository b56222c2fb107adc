"""*GPUs and engines*: is the hardware busy, is the cache large enough, do calls succeed?

Services and coordinators report the same series of calls. A series that only services have tells them apart, since the
label ``role`` exists only if scraping adds it.
"""

from monitoring.board import GREEN, ORANGE, RED, Board, Kind, Needs, Panel, Query, Row, make_documents_row, make_number
from monitoring.promql import RANGE, RATE, coordinators, engines, gpus, quantile, ratio, services

SERVERS = "and on (instance) gsi_rpc_limit"


def calls_at_services(name: str, window: str, matchers: str = "") -> str:
    """Return a series of calls as the services report it."""
    return f"({services(name, matchers, window)}) {SERVERS}"


def calls_at_coordinators(name: str, window: str) -> str:
    """Return a series of calls as the coordinators report it."""
    return f"({coordinators(name, '', window)}) unless on (instance) gsi_rpc_limit"


def _by_model(name: str, function: str = "sum", window: str = "") -> str:
    return f"{function} by (model_name) ({engines(name, window)})"


def _hits(window: str, by: str = "") -> str:
    def total(name: str) -> str:
        return f"sum{f' by ({by}) ' if by else ' '}({engines(name, window)})"

    return ratio(total("vllm:prefix_cache_hits_total"), total("vllm:prefix_cache_queries_total"))


def _mean(name: str) -> str:
    return ratio(_by_model(f"{name}_sum", window=RATE), _by_model(f"{name}_count", window=RATE))


HARDWARE_NUMBERS = Row(
    "At a glance",
    [
        make_number(
            "Ready replicas",
            "Model services that report SERVING, by service. If a service has none, every job waits.",
            [Query(f"sum by (service) ({services('gsi_ready')})", "{{service}}")],
            width=8,
            decimals=0,
            steps=((0, RED), (1, GREEN)),
            alert="GsiRoleNotReady",
        ),
        make_number(
            "Busiest service",
            "Calls in flight against the limit, for the replica nearest to its limit. At 100 % further calls are "
            "refused, and coordinators retry them.",
            [Query(f"max (({services('gsi_rpcs_in_flight')}) / on (instance, service) gsi_rpc_limit)")],
            unit="percentunit",
            width=4,
            decimals=1,
            steps=((0, GREEN), (0.7, ORANGE), (0.9, RED)),
        ),
        make_number(
            "Fullest cache",
            "Share of the key-value cache in use, for the engine with the fullest cache. Near 100 % requests wait or "
            "are preempted.",
            [Query(f"max ({engines('vllm:kv_cache_usage_perc')})")],
            unit="percentunit",
            width=4,
            decimals=1,
            steps=((0, GREEN), (0.8, ORANGE), (0.95, RED)),
        ),
        make_number(
            "Prefix-cache hits",
            "Share of the tokens looked up in the prefix cache that were found, over the time range. Scoring and "
            "the next step both depend on it: at long contexts it should be near 100 %.",
            [Query(_hits(RANGE))],
            unit="percentunit",
            width=4,
            decimals=1,
        ),
        make_number(
            "Calls that failed",
            "Share of the services' calls that did not end with OK, over the time range. It includes cancelled calls: "
            "a cancelled job cancels its calls.",
            [
                Query(
                    "1 - "
                    + ratio(
                        "sum (" + calls_at_services("gsi_rpc_seconds_count", RANGE, 'code="OK"') + ")",
                        f"sum ({calls_at_services('gsi_rpc_seconds_count', RANGE)})",
                    )
                )
            ],
            unit="percentunit",
            width=4,
            decimals=1,
            steps=((0, GREEN), (0.01, ORANGE), (0.05, RED)),
            alert="GsiCallsFail",
        ),
    ],
)

GPUS = Row(
    "GPUs (NVML)",
    [
        Panel(
            "GPU utilisation",
            "Share of the time in which each GPU was busy. A GPU counts once, even if several processes share it.",
            Kind.LINES,
            [Query(gpus("gsi_gpu_utilization_ratio"), "{{uuid}}")],
            unit="percentunit",
            minimum=0,
            maximum=1,
            needs=Needs.GPU,
            is_main=True,
            alert="GsiGpuIdle",
        ),
        Panel(
            "GPU memory in use",
            "Share of each GPU's memory in use, by any process.",
            Kind.LINES,
            [
                Query(
                    f"{gpus('gsi_gpu_memory_bytes')} / {gpus('gsi_gpu_memory_total_bytes')}",
                    "{{uuid}}",
                )
            ],
            unit="percentunit",
            minimum=0,
            maximum=1,
            needs=Needs.GPU,
            is_main=True,
        ),
    ],
)

ENGINES = Row(
    "Engines (vLLM)",
    [
        Panel(
            "Batch size",
            "Requests that run together in a model's engines. A target that runs few requests at a time is "
            "underused: raise GSI_COORDINATOR_MAX_JOBS.",
            Kind.LINES,
            [Query(_by_model("vllm:num_requests_running"), "{{model_name}}")],
            unit="suffix: requests",
            width=12,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Requests that wait",
            "Requests in the engines' own queues. If requests keep waiting, add replicas of that model.",
            Kind.LINES,
            [Query(_by_model("vllm:num_requests_waiting"), "{{model_name}}")],
            unit="suffix: requests",
            width=12,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Tokens written",
            "Tokens per second that a model's engines generate.",
            Kind.LINES,
            [Query(_by_model("vllm:generation_tokens_total", window=RATE), "{{model_name}}")],
            unit="suffix: tokens/s",
            width=12,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Key-value cache in use",
            "The fullest engine of each model. If it stays above 80 %, raise --gpu-memory-utilization or lower "
            "--max-model-len.",
            Kind.LINES,
            [Query(_by_model("vllm:kv_cache_usage_perc", "max"), "{{model_name}}")],
            unit="percentunit",
            width=12,
            minimum=0,
            maximum=1,
            is_main=True,
        ),
        Panel(
            "Prefix-cache hits",
            "Share of the tokens looked up that were found, by model. If it falls at long contexts, the cache is "
            "too small.",
            Kind.LINES,
            [Query(_hits(RATE, "model_name"), "{{model_name}}")],
            unit="percentunit",
            width=12,
            minimum=0,
            maximum=1,
            is_main=True,
        ),
        Panel(
            "Preemptions",
            "Requests per second that lost their cache and are recomputed. The cache is too small.",
            Kind.LINES,
            [Query(_by_model("vllm:num_preemptions_total", window=RATE), "{{model_name}}")],
            unit="suffix: /s",
            width=12,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Where a request's time goes",
            "Mean seconds that a request spends in the engine's queue, on its prompt, and on writing.",
            Kind.LINES,
            [
                Query(_mean("vllm:request_queue_time_seconds"), "{{model_name}}, queue"),
                Query(_mean("vllm:request_prefill_time_seconds"), "{{model_name}}, prompt"),
                Query(_mean("vllm:request_decode_time_seconds"), "{{model_name}}, writing"),
            ],
            unit="s",
            minimum=0,
        ),
        Panel(
            "Scores computed again",
            "Likelihoods per second that the prefix cache gave wrongly and that were recomputed from the whole "
            "prompt. With the pinned version of vLLM it stays at 0.",
            Kind.LINES,
            [Query(f"sum ({services('gsi_scores_recomputed_total', '', RATE)})", "computed again")],
            unit="suffix: /s",
            minimum=0,
            alert="GsiScoresRecomputed",
        ),
    ],
)

CALLS = Row(
    "Calls (gRPC)",
    [
        Panel(
            "Latency at the services",
            "95 % of the calls take less time, by service and method. A stream lasts from its first to its last "
            "message.",
            Kind.LINES,
            [
                Query(
                    quantile(0.95, calls_at_services("gsi_rpc_seconds_bucket", RATE), "le, service, method"),
                    "{{service}} {{method}}",
                )
            ],
            unit="s",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Latency at the coordinators",
            "The same calls, measured at the coordinators. The additional time is network and connection.",
            Kind.LINES,
            [
                Query(
                    quantile(0.95, calls_at_coordinators("gsi_rpc_seconds_bucket", RATE), "le, service, method"),
                    "{{service}} {{method}}",
                )
            ],
            unit="s",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Calls by code",
            "Calls per second at the coordinators, by service and gRPC status code. RESOURCE_EXHAUSTED: the service is "
            "full. DEADLINE_EXCEEDED: the service is too slow. UNAVAILABLE: the service cannot be reached.",
            Kind.STACK,
            [
                Query(
                    f"sum by (service, code) ({calls_at_coordinators('gsi_rpc_seconds_count', RATE)})",
                    "{{service}} {{code}}",
                )
            ],
            unit="suffix: /s",
            minimum=0,
            is_main=True,
            alert="GsiCallsFail",
        ),
        Panel(
            "Calls in flight against the limit",
            "The replica nearest to its limit, by service. Autoscaling follows calls in flight.",
            Kind.LINES,
            [
                Query(
                    f"max by (service) (({services('gsi_rpcs_in_flight')}) / on (instance, service) gsi_rpc_limit)",
                    "{{service}}",
                )
            ],
            unit="percentunit",
            minimum=0,
            is_main=True,
        ),
    ],
)

REPLICAS = Row(
    "Replicas",
    [
        Panel(
            "Choices of a replica",
            "Calls of jobs per second, by service and choice. home: the replica with the job's prefix. load: another "
            "one, because that one had its share. lost: another one, because that one was away, full, or had another "
            "model. Load and lost cost a step with a colder cache. All are 0 while each service has one address.",
            Kind.STACK,
            [
                Query(
                    f"sum by (role, choice) ({coordinators('gsi_replica_choices_total', '', RATE)})",
                    "{{role}} {{choice}}",
                )
            ],
            unit="suffix: /s",
            minimum=0,
        ),
        Panel(
            "Ready replicas",
            "Model services that report SERVING, and model services that Prometheus reaches.",
            Kind.LINES,
            [
                Query(f"sum by (service) ({services('gsi_ready')})", "{{service}} ready"),
                Query(f"count by (service) ({services('gsi_ready')})", "{{service}} reached"),
            ],
            width=12,
            minimum=0,
            decimals=0,
        ),
        Panel(
            "What KEDA sees",
            "The metric of each scaler. KEDA divides it by the scaler's target to get the number of replicas.",
            Kind.LINES,
            [
                Query(
                    'max by (scaledObject, metric) (keda_scaler_metrics_value{scaledObject=~"($release).*"})',
                    "{{scaledObject}} {{metric}}",
                )
            ],
            width=12,
            minimum=0,
            needs=Needs.KEDA,
        ),
    ],
)

ENGINES_BOARD = Board(
    "gsi-engines",
    "GSI / GPUs and engines",
    "Is the hardware busy, is the cache large enough, do calls succeed?",
    [HARDWARE_NUMBERS, GPUS, ENGINES, CALLS, REPLICAS, make_documents_row("When an alert fires; Symptoms; Replicas")],
)
