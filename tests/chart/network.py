"""Which pod may connect to which: a small reading of NetworkPolicy.

Rules: https://kubernetes.io/docs/concepts/services-networking/network-policies/ (policies only add: what no policy that
selects a pod allows is refused; a pod that none selects is open). A peer given as an ipBlock is taken to hold a pod's
address if it holds POD_ADDRESS.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.chart.pods import Container
from tests.chart.rendering import Object

POD_ADDRESS = ipaddress.ip_address("10.244.1.7")  # of the range that most clusters give to pods

Rule = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """A pod as the network sees it."""

    namespace: str
    labels: Mapping[str, str]
    containers: tuple[Container, ...] = ()

    def port(self, name: int | str) -> int:
        """Return the number of a port that a policy may give by name; 0 if the pod has none of that name."""
        if isinstance(name, int):
            return name
        ports = [port for container in self.containers for port in container.get("ports", [])]
        return next((port["containerPort"] for port in ports if port.get("name") == name), 0)


@dataclass(frozen=True)
class Goal:
    """What is to be connected to."""

    target: Place
    port: int
    protocol: str


def may_connect(policies: list[Object], source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
    """Return whether ``source`` may leave and ``target`` may be entered."""
    goal = Goal(target, port, protocol)
    return _allowed(policies, "Egress", source, target, goal) and _allowed(policies, "Ingress", target, source, goal)


def _allowed(policies: list[Object], direction: str, subject: Place, peer: Place, goal: Goal) -> bool:
    """Return whether the policies of ``subject`` let it talk to ``peer`` in one direction."""
    of_subject = [policy for policy in policies if _is_about(policy, direction, subject)]
    if not of_subject:
        return True
    peers = "from" if direction == "Ingress" else "to"
    return any(
        _is_peer(rule.get(peers), peer, policy["metadata"]["namespace"]) and _is_port(rule.get("ports"), goal)
        for policy in of_subject
        for rule in policy["spec"].get(direction.lower()) or []
    )


def _is_about(policy: Object, direction: str, subject: Place) -> bool:
    spec = policy["spec"]
    default = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    is_here = policy["metadata"]["namespace"] == subject.namespace
    return is_here and direction in spec.get("policyTypes", default) and selects(spec["podSelector"], subject.labels)


def _is_peer(peers: list[Rule] | None, peer: Place, namespace: str) -> bool:
    """Without peers a rule is about everyone."""
    return not peers or any(_matches(one, peer, namespace) for one in peers)


def _matches(one: Rule, peer: Place, namespace: str) -> bool:
    if "ipBlock" in one:
        block = one["ipBlock"]
        inside = POD_ADDRESS in ipaddress.ip_network(block["cidr"])
        return inside and not any(POD_ADDRESS in ipaddress.ip_network(but) for but in block.get("except", []))
    if "namespaceSelector" in one:
        is_there = selects(one["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace})
    else:
        is_there = peer.namespace == namespace
    return is_there and selects(one.get("podSelector") or {}, peer.labels)


def _is_port(ports: list[Rule] | None, goal: Goal) -> bool:
    """Without ports a rule is about all of them."""
    if not ports:
        return True
    same = [one for one in ports if one.get("protocol", "TCP") == goal.protocol]
    return any("port" not in one or _within(one, goal) for one in same)


def _within(one: Rule, goal: Goal) -> bool:
    first = goal.target.port(one["port"])
    last: int = one.get("endPort", first)
    return first <= goal.port <= last


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector selects; an empty one selects all."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values", [])
    label = labels.get(key)
    return {
        "In": label in values,
        "NotIn": label not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[operator]
