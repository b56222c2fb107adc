"""Whether an object is one that a cluster would take: its fields, their types, and none that it does not know."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import cloudcoil.models.cert_manager.v1 as cert_manager
import cloudcoil.models.keda.v1alpha1 as keda
import cloudcoil.models.prometheus_operator.v1 as prometheus_operator
import kubernetes_validate
from kubernetes_validate import utils
from pydantic import BaseModel, Field, ValidationError

from tests.chart.rendering import Object, name_of

KUBERNETES = ("1.29", "1.37")  # the oldest that the chart is for, and the newest whose schemas there are


class _ParentRef(BaseModel):
    name: str
    namespace: str | None = None
    sectionName: str | None = None  # noqa: N815  # the field's name


class _PathMatch(BaseModel):
    type: Literal["Exact", "PathPrefix", "RegularExpression"]
    value: str = Field(pattern=r"^/", max_length=1024)


class _Match(BaseModel):
    path: _PathMatch


class _BackendRef(BaseModel):
    name: str
    port: int = Field(ge=1, le=65535)


class _Timeouts(BaseModel):
    request: str = Field(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")


class _Rule(BaseModel):
    matches: list[_Match] = Field(max_length=64)
    backendRefs: list[_BackendRef] = Field(max_length=16)  # noqa: N815
    timeouts: _Timeouts


class _Routing(BaseModel):
    parentRefs: list[_ParentRef] = Field(min_length=1, max_length=32)  # noqa: N815
    hostnames: list[str] | None = Field(None, max_length=16)
    rules: list[_Rule] = Field(min_length=1, max_length=16)


class _Metadata(BaseModel):
    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str] | None = None


class HttpRoute(BaseModel):
    """The part of the Gateway API's HTTPRoute that the chart uses: https://gateway-api.sigs.k8s.io/reference/spec/."""

    apiVersion: Literal["gateway.networking.k8s.io/v1"]  # noqa: N815
    kind: Literal["HTTPRoute"]
    metadata: _Metadata
    spec: _Routing


# Kinds that an operator adds to a cluster.
MODELS: dict[tuple[str, str], type[BaseModel]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): keda.TriggerAuthentication,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus_operator.PodMonitor,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): prometheus_operator.ServiceMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus_operator.PrometheusRule,
    ("cert-manager.io/v1", "Certificate"): cert_manager.Certificate,
    ("cert-manager.io/v1", "Issuer"): cert_manager.Issuer,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): HttpRoute,
}

utils.schema_contents = cache(utils.schema_contents)  # else it reads the same megabytes for every object


def faults(found: Object, version: str) -> list[str]:
    """Return what a cluster of this version would refuse about an object; a kind that nobody knows is a fault."""
    model = MODELS.get((found["apiVersion"], found["kind"]))
    return [f"{name_of(found)}: {fault}" for fault in (_of_ours(found, model) if model else _built_in(found, version))]


def _built_in(found: Object, version: str) -> Iterator[str]:
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


def _of_ours(found: Object, model: type[BaseModel]) -> Iterator[str]:
    """The models ignore what they do not know: it is missing from what they give back."""
    try:
        understood = model.model_validate(found).model_dump(by_alias=True, exclude_unset=True, mode="json")
    except ValidationError as error:
        yield from (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    else:
        yield from _lost(found, understood, "")


def _lost(given: Any, understood: Any, path: str) -> Iterator[str]:
    if isinstance(given, dict):
        for key, value in given.items():
            where = f"{path}.{key}".lstrip(".")
            if isinstance(understood, dict) and key in understood:
                yield from _lost(value, understood[key], where)
            else:
                yield f"{where}: no such field"
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from _lost(value, understood[index], f"{path}.{index}")
