"""*GPUs and engines*: is the hardware busy, is the cache large enough, do the calls come through?

Servers and callers report the same series of calls. They are told apart by the series that only a server has, because
the label ``role`` is there only if scraping adds it.
"""

from monitoring.board import GREEN, ORANGE, RED, Board, Kind, Needs, Panel, Query, Row, number, where_to_look
from monitoring.promql import RANGE, RATE, coordinators, engines, gpus, quantile, ratio, services

SERVERS = "and on (instance) gsi_rpc_limit"


def served(name: str, window: str, matchers: str = "") -> str:
    """Return a series of calls as the services saw them."""
    return f"({services(name, matchers, window)}) {SERVERS}"


def _called(name: str, window: str) -> str:
    """Return a series of calls as the coordinators saw them."""
    return f"({coordinators(name, '', window)}) unless on (instance) gsi_rpc_limit"


def _by_model(name: str, function: str = "sum", window: str = "") -> str:
    return f"{function} by (model_name) ({engines(name, window)})"


def _hits(window: str, by: str = "") -> str:
    def total(name: str) -> str:
        return f"sum{f' by ({by}) ' if by else ' '}({engines(name, window)})"

    return ratio(total("vllm:prefix_cache_hits_total"), total("vllm:prefix_cache_queries_total"))


def _mean(name: str) -> str:
    return ratio(_by_model(f"{name}_sum", window=RATE), _by_model(f"{name}_count", window=RATE))


AT_A_GLANCE = Row(
    "At a glance",
    [
        number(
            "Ready replicas",
            "Model services that say SERVING, by service. 0 of one and every job waits.",
            [Query(f"sum by (service) ({services('gsi_ready')})", "{{service}}")],
            width=12,
            decimals=0,
            steps=((0, RED), (1, GREEN)),
        ),
        number(
            "Busiest service",
            "Calls in flight against the limit, of the replica nearest to it. At 100 % callers are told to come back.",
            [Query(f"max (({services('gsi_rpcs_in_flight')}) / on (instance, service) gsi_rpc_limit)")],
            unit="percentunit",
            width=4,
            decimals=1,
            steps=((0, GREEN), (0.7, ORANGE), (0.9, RED)),
        ),
        number(
            "Fullest cache",
            "Share of the key-value cache in use, of the engine whose cache is fullest. Near 100 % requests wait or "
            "are preempted.",
            [Query(f"max ({engines('vllm:kv_cache_usage_perc')})")],
            unit="percentunit",
            width=4,
            decimals=1,
            steps=((0, GREEN), (0.8, ORANGE), (0.95, RED)),
        ),
        number(
            "Prefix-cache hits",
            "Share of the tokens looked up in the prefix cache that were found, over the time range. Scoring and "
            "the next step both live on it: at long contexts it should be near 100 %.",
            [Query(_hits(RANGE))],
            unit="percentunit",
            width=4,
            decimals=1,
        ),
        number(
            "Calls that failed",
            "Share of the services' calls that did not end with OK, over the time range. Cancelled calls are among "
            "them: a cancelled job cancels its calls.",
            [
                Query(
                    "1 - "
                    + ratio(
                        "sum (" + served("gsi_rpc_seconds_count", RANGE, 'code="OK"') + ")",
                        f"sum ({served('gsi_rpc_seconds_count', RANGE)})",
                    )
                )
            ],
            unit="percentunit",
            width=4,
            decimals=1,
            steps=((0, GREEN), (0.01, ORANGE), (0.05, RED)),
        ),
    ],
)

GPUS = Row(
    "GPUs (NVML)",
    [
        Panel(
            "GPU utilisation",
            "Share of the time in which each GPU was busy, once for each GPU however many processes share it.",
            Kind.LINES,
            [Query(gpus("gsi_gpu_utilization_ratio"), "{{uuid}}")],
            unit="percentunit",
            minimum=0,
            maximum=1,
            needs=Needs.GPU,
            is_main=True,
        ),
        Panel(
            "GPU memory in use",
            "Share of each GPU's memory in use, by whichever process.",
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
            "Requests that run together in the engines of a model. A target that runs few at a time is not used to "
            "the full: raise GSI_COORDINATOR_MAX_JOBS.",
            Kind.LINES,
            [Query(_by_model("vllm:num_requests_running"), "{{model_name}}")],
            unit="suffix: requests",
            width=12,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Requests that wait",
            "Requests in the engines' own queues. If it lasts, add replicas of that model.",
            Kind.LINES,
            [Query(_by_model("vllm:num_requests_waiting"), "{{model_name}}")],
            unit="suffix: requests",
            width=12,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Tokens written",
            "Tokens a second that the engines of a model generate.",
            Kind.LINES,
            [Query(_by_model("vllm:generation_tokens_total", window=RATE), "{{model_name}}")],
            unit="suffix: tokens/s",
            width=12,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Key-value cache in use",
            "Of the fullest engine of each model. Above 80 % for long: raise --gpu-memory-utilization or lower "
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
            "Requests a second that had to give up their cache and are computed again: the cache is too small.",
            Kind.LINES,
            [Query(_by_model("vllm:num_preemptions_total", window=RATE), "{{model_name}}")],
            unit="suffix: /s",
            width=12,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Where a request's time goes",
            "Mean seconds of a request in the engine's queue, reading its prompt, and writing.",
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
            "Likelihoods a second that the prefix cache gave wrongly and that were computed again from the whole "
            "prompt. It stays at 0 with the pinned version of vLLM.",
            Kind.LINES,
            [Query(f"sum ({services('gsi_scores_recomputed_total', '', RATE)})", "computed again")],
            unit="suffix: /s",
            minimum=0,
        ),
    ],
)

CALLS = Row(
    "Calls (gRPC)",
    [
        Panel(
            "Latency at the services",
            "95 % of the calls take less, by service and method; a stream from its first to its last message.",
            Kind.LINES,
            [
                Query(
                    quantile(0.95, served("gsi_rpc_seconds_bucket", RATE), "le, service, method"),
                    "{{service}} {{method}}",
                )
            ],
            unit="s",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Latency at the coordinators",
            "The same as the callers see it. What is on top of the service's own time is network and connection.",
            Kind.LINES,
            [
                Query(
                    quantile(0.95, _called("gsi_rpc_seconds_bucket", RATE), "le, service, method"),
                    "{{service}} {{method}}",
                )
            ],
            unit="s",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Calls by code",
            "Calls a second at the coordinators, by service and gRPC status code. RESOURCE_EXHAUSTED: told to come "
            "back. DEADLINE_EXCEEDED: too slow. UNAVAILABLE: away.",
            Kind.STACK,
            [Query(f"sum by (service, code) ({_called('gsi_rpc_seconds_count', RATE)})", "{{service}} {{code}}")],
            unit="suffix: /s",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Calls in flight against the limit",
            "Of the replica nearest to its limit, by service. Autoscaling looks at calls in flight.",
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
            "Ready replicas",
            "Model services that say SERVING, and those that Prometheus reaches.",
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
            "The metric of each scaler, which KEDA divides by its target to find the number of replicas.",
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
    "Is the hardware busy, is the cache large enough, do the calls come through?",
    [AT_A_GLANCE, GPUS, ENGINES, CALLS, REPLICAS, where_to_look("When an alert fires; Symptoms; Replicas")],
)
