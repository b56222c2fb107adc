"""The Pareto front: what no other choice beats in both cost and accuracy."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def pareto_front(choices: Sequence[T], cost: Callable[[T], float], value: Callable[[T], float]) -> list[T]:
    """Return the choices that are not dominated, in order of cost.

    A choice dominates another if it costs at most as much and is worth at least as much, and is better in one of the
    two. Equal choices do not dominate each other: all of them are on the front, in the order given.
    """
    front: list[T] = []
    for choice in sorted(choices, key=lambda one: (cost(one), -value(one))):
        last = front[-1] if front else None
        is_equal = last is not None and (cost(choice), value(choice)) == (cost(last), value(last))
        if last is None or value(choice) > value(last) or is_equal:
            front.append(choice)
    return front
