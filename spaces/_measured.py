"""Sizes of a space's networks where it has no formulas: each is built, in one process of its own, and counted."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from spaces._helper import Helper
from spaces._space import Config, Space, without_formula
from spaces.datasets import DataSpec
from spaces.errors import BuildFailed

_ABSENT = object()


@dataclass(frozen=True)
class Counts:
    """A network's weights, its multiply-adds for one image forward, and the numbers its layers put out for it."""

    params: int
    multiply_adds: int
    activations: int


def complete(space: Space, reference: str) -> Space:
    """The space with a measurement in place of each formula that it lacks; `reference` is what it was found by.

    What is measured raises BuildFailed where build() fails.
    """
    lacking = [name for name in ("params", "multiply_adds") if getattr(space, name) is without_formula]
    if not lacking:
        return space
    wanted = lacking if space.activations else [*lacking, "activations"]

    def count(name: str) -> Callable[[Config, DataSpec], int]:
        return lambda config, data: int(getattr(_builder(reference).counts(config, data), name))

    measured: dict[str, Any] = {name: count(name) for name in wanted}
    return replace(space, **measured)


@functools.cache
def _builder(reference: str) -> Builder:
    return Builder(reference)


class Builder:
    """A process that builds networks of one space for whoever asks; it starts with the first question.

    What build() did not look at does not change its network, so one network answers for many configurations.
    """

    def __init__(self, reference: str) -> None:
        self.helper = Helper("spaces._builder", reference, "building the network")
        self._known: dict[DataSpec, list[tuple[dict[str, Any], Counts | BuildFailed]]] = {}
        self._lock = threading.Lock()

    def counts(self, config: Mapping[str, Any], data: DataSpec) -> Counts:
        """The sizes of one configuration's network on images of `data`. Raises BuildFailed."""
        with self._lock:
            known = self._known.setdefault(data, [])
            found = next((said for looked_at, said in known if _agrees(config, looked_at)), None)
            if found is None:
                answer = self.helper.ask({"config": dict(config), "data": asdict(data)})
                found = _said(answer)
                known.append((_looked_at(answer, config), found))
        if isinstance(found, BuildFailed):
            raise found
        return found


def _said(answer: Mapping[str, Any]) -> Counts | BuildFailed:
    return BuildFailed(answer["error"], answer.get("line", 1)) if "error" in answer else Counts(**answer["counts"])


def _looked_at(answer: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What build() looked at, by name, _ABSENT for what it asked for in vain; all there is where that is not known."""
    looked_at = answer.get("looked_at")
    if looked_at is None:
        return dict(config)
    return {**looked_at, **dict.fromkeys(answer["absent"], _ABSENT)}


def _agrees(config: Mapping[str, Any], looked_at: Mapping[str, Any]) -> bool:
    return all(config.get(name, _ABSENT) == value for name, value in looked_at.items())
