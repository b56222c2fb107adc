"""Values that cannot be meant are refused before anything reaches a cluster, with what is wrong and what is allowed."""

from typing import Any

import pytest

from tests.chart.rendering import HELMS, template

GPU = {"gpu": {"count": 1}}
NO_REDIS = {"builtIn": {"enabled": False}}

# What is given, and words that the message must hold: the value's name, and what is wrong or allowed.
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    # Keys
    "misspelt at the top": ({"drafts": {}}, ["drafts"]),
    "misspelt in a role": ({"draft": {"replica": 2}}, ["draft", "replica"]),
    "misspelt deep inside": ({"target": {"autoscaling": {"maxReplica": 2}}}, ["autoscaling", "maxReplica"]),
    "misspelt in redis": ({"redis": {"externl": {}}}, ["redis", "externl"]),
    "misspelt in monitoring": ({"monitoring": {"podMonitor": {"enable": True}}}, ["podMonitor", "enable"]),
    # Types and ranges
    "negative replicas": ({"draft": {"replicas": -1}}, ["replicas", "minimum|greater"]),
    "replicas in words": ({"coordinator": {"replicas": "two"}}, ["replicas", "integer"]),
    "no such dtype": ({"prm": {"dtype": "float8"}}, ["dtype", "bfloat16"]),
    "no such engine": ({"prm": {"engine": "llamacpp"}}, ["engine", "vllm"]),
    "remote without an address": ({"draft": {"engine": "remote"}}, ["draft.remote.url", "http://HOST:PORT"]),
    "remote with a password": (
        {"draft": {"engine": "remote", "remote": {"url": "http://user:hunter2@a:1"}}},
        ["draft.remote.url", "without a password", "apiKeySecret"],
    ),
    "remote with a GPU": (
        {"target": GPU | {"engine": "remote", "remote": {"url": "http://a:1"}}},
        ["target.gpu.count", "allowed: 0"],
    ),
    "a target on llama.cpp": (
        {"target": {"engine": "remote", "remote": {"url": "http://a:1", "kind": "llamacpp"}}},
        ["target.remote.kind", "vllm"],
    ),
    "no such log level": ({"draft": {"logLevel": "loud"}}, ["logLevel", "debug"]),
    "no such strategy": ({"draft": {"strategy": {"type": "BlueGreen"}}}, ["strategy", "Recreate"]),
    "no such scaler": ({"draft": {"autoscaling": {"kind": "vpa"}}}, ["kind", "keda"]),
    "temperature 0": ({"sampling": {"temperature": 0}}, ["temperature"]),
    "no such likelihood": ({"sampling": {"likelihood": "both"}}, ["likelihood", "sampling"]),
    "a queue with a brace": ({"coordinator": {"queue": "a{b"}}, ["coordinator.queue", "a{b", "up to 63 letters"]),
    "patience for ever": ({"coordinator": {"newerJobSeconds": 90_000}}, ["newerJobSeconds", "86400|86,400"]),
    "adopting in words": ({"coordinator": {"adoptQueue": "yes"}}, ["adoptQueue", "boolean"]),
    "a share above 1": ({"tracing": {"endpoint": "http://a:4317", "sampleRatio": 2}}, ["sampleRatio", "maximum|less"]),
    # Images
    "latest": ({"draft": {"image": {"tag": "latest"}}}, ["draft", "tag", "latest"]),
    "latest of the coordinator": ({"coordinator": {"image": {"tag": "latest"}}}, ["coordinator", "tag", "latest"]),
    "latest of redis": ({"redis": {"builtIn": {"image": {"tag": "latest"}}}}, ["tag", "latest"]),
    "latest in the repository": ({"draft": {"image": {"repository": "gsi-engine:latest"}}}, ["repository"]),
    "a digest that is none": ({"target": {"image": {"digest": "sha256:abc"}}}, ["digest", "sha256"]),
    # Models
    "a model without a scheme": ({"draft": {"model": {"uri": "Qwen/Qwen2.5-Math-1.5B"}}}, ["uri", "hf://"]),
    "a model from elsewhere": ({"draft": {"model": {"uri": "s3://bucket/model"}}}, ["uri", "hf://", "pvc://"]),
    "a model of no owner": ({"draft": {"model": {"uri": "hf://model"}}}, ["uri", "hf://"]),
    "a path out of the volume": ({"draft": {"model": {"uri": "pvc://../secrets"}}}, ["uri"]),
    "a volume that is not there": ({"prm": {"model": {"uri": "pvc://judge"}}}, ["pvc://", "modelCache"]),
    "a model's name alone": (
        {"draft": {"model": {"uri": "Qwen/Qwen2.5-Math-1.5B"}}},
        ["draft.model.uri", "allowed: hf://Qwen/Qwen2.5-Math-1.5B"],
    ),
    "gigabytes": ({"modelCache": {"size": "200GB"}}, ["modelCache.size", "200GB", "such as 200Gi"]),
    "gigabytes of a role": ({"draft": {"scratch": {"size": "20 GB"}}}, ["draft.scratch.size", "20 GB"]),
    "a claim that binds nowhere": (
        {"modelCache": {"enabled": True, "accessModes": ["ReadWriteMany"]}},
        ["modelCache.accessModes", "Pending for ever", "storageClassName", "ReadWriteOnce"],
    ),
    "a volume of one node for several": (
        {
            "modelCache": {"enabled": True},
            "target": GPU | {"engine": "vllm", "nodes": {"count": 2}, "engineArgs": ["--tensor-parallel-size", "2"]},
        },
        ["modelCache.accessModes", "target", "ReadWriteMany"],
    ),
    "a token for nothing": (
        {"modelCache": {"download": {"tokenSecret": {"name": "a"}}}},
        ["modelCache.download.tokenSecret", "hf://"],
    ),
    "fewer GPUs than vLLM would use": (
        {"target": GPU | {"engine": "vllm", "engineArgs": ["--tensor-parallel-size", "4"]}},
        ["target.engineArgs", "4 GPUs", "gives 1"],
    ),
    "more GPUs than vLLM would use": (
        {"target": {"engine": "vllm", "gpu": {"count": 8}, "engineArgs": ["-tp=2", "--pipeline-parallel-size", "2"]}},
        ["target.engineArgs", "4 GPUs", "gives 8"],
    ),
    # Redis
    "no redis": ({"redis": NO_REDIS}, ["redis", "external", "builtIn"]),
    "two redis": ({"redis": {"external": {"url": "redis://a:6379/0"}}}, ["redis", "external", "builtIn"]),
    "two addresses": (
        {"redis": NO_REDIS | {"external": {"url": "redis://a:6379/0", "urlSecret": {"name": "b"}}}},
        ["redis.external", "url", "urlSecret"],
    ),
    "a backup of several servers": (
        {
            "redis": NO_REDIS | {"external": {"url": "redis+sentinel://a:26379/name"}, "backup": {"enabled": True}},
            "networkPolicy": {"enabled": False},
        },
        ["redis.backup.redis.url", "one server", "replica"],
    ),
    "a backup over TLS without an authority": (
        {"redis": NO_REDIS | {"external": {"url": "rediss://a:6379"}, "backup": {"enabled": True}}},
        ["redis.backup", "redis.external.tls.existingSecret"],
    ),
    "a backup by a user that the built-in redis lacks": (
        {"redis": {"backup": {"enabled": True, "redis": {"url": "redis://backup@a:6379"}}}},
        ["redis.backup.redis", "no users"],
    ),
    "a backup into no gigabytes": (
        {"redis": {"backup": {"enabled": True, "claim": {"size": "8GB"}}}},
        ["redis.backup.claim.size", "such as 200Gi"],
    ),
    "no snapshot to keep": ({"redis": {"backup": {"keep": 0}}}, ["keep", "minimum|greater"]),
    "an address of something else": ({"redis": NO_REDIS | {"external": {"url": "http://a:6379"}}}, ["url", "rediss"]),
    # Secrets
    "a password in the address": (
        {"redis": NO_REDIS | {"external": {"url": "redis://:hunter2@a:6379/0"}}},
        ["redis.external.url|redis/external/url", "password", "passwordSecret"],
    ),
    "a user and password in the address": (
        {"redis": NO_REDIS | {"external": {"url": "rediss://gsi:hunter2@a:6379/0"}}},
        ["url", "password", "passwordSecret"],
    ),
    "a password of the built-in redis": ({"redis": {"builtIn": {"password": "hunter2"}}}, ["builtIn", "password"]),
    "a password of the external redis": (
        {"redis": NO_REDIS | {"external": {"url": "redis://a:6379/0", "password": "hunter2"}}},
        ["external", "password"],
    ),
    "a password as a variable": (
        {"coordinator": {"env": [{"name": "REDIS_PASSWORD", "value": "hunter2"}]}},
        ["coordinator", "env", "REDIS_PASSWORD", "valueFrom"],
    ),
    "a token as a variable": (
        {"draft": {"env": [{"name": "HF_TOKEN", "value": "hf_abc"}]}},
        ["draft", "env", "HF_TOKEN", "valueFrom"],
    ),
    "an address with a password as a variable": (
        {"coordinator": {"env": [{"name": "PROXY", "value": "http://me:hunter2@proxy:80"}]}},
        ["coordinator", "env", "PROXY", "valueFrom"],
    ),
    "a password by another name": ({"redis": {"auth": {"password": "hunter2"}}}, ["redis", "auth|password"]),
    "a password beside its Secret": (
        {"redis": {"builtIn": {"passwordSecret": {"name": "a", "value": "hunter2"}}}},
        ["passwordSecret", "value"],
    ),
    "a password as a query of the address": (
        {"redis": NO_REDIS | {"external": {"url": "redis://a:6379/0?password=hunter2"}}},
        ["url", "password", "passwordSecret"],
    ),
    "our own variable with a password": (
        {"coordinator": {"env": [{"name": "GSI_REDIS_URL", "value": "redis://:hunter2@a:6379/0"}]}},
        ["coordinator", "env", "GSI_REDIS_URL", "valueFrom"],
    ),
    "an access key as a variable": (
        {"target": {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "hunter2"}]}},
        ["target", "env", "AWS_SECRET_ACCESS_KEY", "valueFrom"],
    ),
    "a short password as a variable": (
        {"prm": {"env": [{"name": "DB_PWD", "value": "hunter2"}]}},
        ["prm", "env", "DB_PWD", "valueFrom"],
    ),
    "a password among arguments": (
        {"coordinator": {"args": ["--redis-url=redis://:hunter2@a:6379/0"]}},
        ["password", "values"],
    ),
    "a collector's address with a password": (
        {"tracing": {"endpoint": "http://me:hunter2@collector:4317"}},
        ["tracing", "endpoint", "http://HOST:4317|pattern"],
    ),
    "a token as a variable of the download": (
        {"modelCache": {"download": {"env": [{"name": "HF_TOKEN", "value": "hf_abc"}]}}},
        ["modelCache.download.env", "HF_TOKEN", "valueFrom"],
    ),
    "a token for the download": ({"modelCache": {"download": {"token": "hf_abc"}}}, ["download", "token"]),
    # Roll-outs and scaling
    "no pod may come or go": (
        {"draft": {"strategy": {"type": "RollingUpdate", "maxSurge": 0, "maxUnavailable": 0}}},
        ["draft", "maxSurge", "maxUnavailable"],
    ),
    "no percentage of pods may come or go": (
        {"target": {"strategy": {"type": "RollingUpdate", "maxSurge": "0%", "maxUnavailable": "0%"}}},
        ["target", "maxSurge", "maxUnavailable"],
    ),
    "the same for coordinators": (
        {"coordinator": {"strategy": {"maxSurge": 0, "maxUnavailable": 0}}},
        ["coordinator", "maxSurge", "maxUnavailable"],
    ),
    "a surge of GPUs": (
        {"draft": GPU | {"strategy": {"type": "RollingUpdate", "maxSurge": 1, "maxUnavailable": 0}}},
        ["draft", "maxSurge", "GPU"],
    ),
    "fewer at most than at least": (
        {"draft": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}},
        ["draft", "minReplicas", "maxReplicas"],
    ),
    "the same for the coordinator's scaler": (
        {"coordinator": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}},
        ["coordinator", "minReplicas", "maxReplicas"],
    ),
    "models from zero without a scaler that goes there": (
        {"draft": {"autoscaling": {"enabled": True, "kind": "hpa", "minReplicas": 0}}},
        ["draft.autoscaling.minReplicas", "keda"],
    ),
    "models from zero that nobody wakes": (
        {"draft": {"autoscaling": {"enabled": True, "minReplicas": 0}}, "exporter": {"enabled": False}},
        ["draft.autoscaling.minReplicas", "exporter.enabled"],
    ),
    "a pod killed while it drains": (
        {"draft": {"graceSeconds": 120, "terminationGracePeriodSeconds": 60}},
        ["draft", "terminationGracePeriodSeconds", "graceSeconds"],
    ),
    "a budget that blocks every drain": ({"draft": {"pdb": {"maxUnavailable": 0}}}, ["pdb", "maxUnavailable"]),
    "several nodes without GPUs": ({"target": {"nodes": {"count": 2}}}, ["target", "nodes"]),
    "several nodes that scale": (
        {
            "target": GPU
            | {"engine": "vllm", "nodes": {"count": 2}, "autoscaling": {"enabled": True}, "engineArgs": ["-tp", "2"]}
        },
        ["target", "nodes", "autoscaling"],
    ),
    "keda does not find a hidden redis": (
        {
            "redis": NO_REDIS | {"external": {"urlSecret": {"name": "a"}}},
            "coordinator": {"autoscaling": {"enabled": True}},
        },
        ["coordinator.autoscaling.redisAddress|coordinator/autoscaling/redisAddress"],
    ),
    # The gateway
    "a gateway killed while it drains": (
        {"gateway": {"terminationGracePeriodSeconds": 60}},
        ["gateway.terminationGracePeriodSeconds", "graceSeconds", "at least 66"],
    ),
    "a volume that several gateways cannot have": (
        {"gateway": {"replicas": 2, "files": {"claim": {"enabled": True}}}},
        ["gateway.files.claim.accessModes", "ReadWriteMany", "files.url"],
    ),
    "two places for files": (
        {"gateway": {"files": {"url": "s3://a/b", "existingClaim": "c"}}},
        ["gateway.files", "at most one"],
    ),
    "a scaler of nothing": (
        {"gateway": {"autoscaling": {"enabled": True, "targetCpuPercent": None}}},
        ["gateway.autoscaling", "openRequestsPerPod"],
    ),
    "an ingress of no host": ({"gateway": {"ingress": {"enabled": True}}}, ["gateway.ingress.host"]),
    "a route of no gateway": ({"gateway": {"httpRoute": {"enabled": True}}}, ["gateway.httpRoute.parentRefs"]),
    "a user of the built-in redis": (
        {"gateway": {"redis": {"passwordSecret": {"name": "a"}}}},
        ["gateway.redis", "redis.external"],
    ),
    "a password in the gateway's address": (
        {
            "gateway": {"redis": {"url": "redis://:hunter2@a:6379/0"}},
            "redis": NO_REDIS | {"external": {"url": "redis://a:6379/0"}},
        },
        ["password", "values"],
    ),
    # Alerts
    "an alert that there is not": (
        {"monitoring": {"prometheusRule": {"disabled": ["GsiGpuIdel"]}}},
        ["monitoring.prometheusRule", "GsiGpuIdel", "GsiGpuIdle"],
    ),
    "a field that no alert has": (
        {"monitoring": {"prometheusRule": {"alerts": {"GsiGpuIdle": {"fro": "5m"}}}}},
        ["fro"],
    ),
    # TLS
    "certificates from nowhere": ({"tls": {"enabled": True}}, ["tls", "issuerRef", "existingSecret"]),
    "a certificate from nowhere": (
        {"tls": {"enabled": True, "existingSecrets": {"draft": "a", "prm": "b", "coordinator": "c"}}},
        ["tls", "target", "issuerRef"],
    ),
    "two callers in one name": (
        {"tls": {"enabled": True, "existingSecret": "a", "callers": ["a,b"]}},
        ["tls.callers|tls/callers"],
    ),
}


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_refused_by_name(case: str, version: str) -> None:
    """The message names the value and what is wrong with it or allowed; it never repeats a password."""
    values, words = WRONG[case]
    refused = template("cpu", values, version)
    assert refused.returncode != 0, "it was rendered"
    for word in words:
        assert any(one in refused.stderr for one in word.split("|")), refused.stderr
    assert "hunter2" not in refused.stderr
    assert "hf_abc" not in refused.stderr


@pytest.mark.parametrize("version", HELMS)
def test_the_profile_that_is_made_wrong_is_right(version: str) -> None:
    """So that what is refused above is refused for the value that was changed."""
    assert template("cpu", {}, version).returncode == 0
    right = {"redis": NO_REDIS | {"external": {"url": "rediss://gsi@a:6379/0"}}}
    assert template("cpu", right, version).returncode == 0
