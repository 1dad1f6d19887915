"""Sizes of a space's networks where it has no formulas: each is built, in one process of its own, and counted."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spaces._space import Config, Space, without_formula
from spaces.datasets import DataSpec
from spaces.errors import BuildFailed

SLOW = 300.0  # seconds for one network, the start of the process included
ROOT = str(Path(__file__).parents[1])
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
        self.reference = reference
        self._known: dict[DataSpec, list[tuple[dict[str, Any], Counts | BuildFailed]]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def counts(self, config: Mapping[str, Any], data: DataSpec) -> Counts:
        """The sizes of one configuration's network on images of `data`. Raises BuildFailed."""
        with self._lock:
            known = self._known.setdefault(data, [])
            found = next((said for looked_at, said in known if _agrees(config, looked_at)), None)
            if found is None:
                answer = self._answer({"config": dict(config), "data": asdict(data)})
                found = _said(answer)
                known.append((_looked_at(answer, config), found))
        if isinstance(found, BuildFailed):
            raise found
        return found

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError):  # of a question that was never read
                self._process.communicate()
            self._process = None

    def _answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """What the process says, or what became of it."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], SLOW)
            line = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            ready, line = [process.stdout], b""
        except BaseException:  # a question without its answer: the next one would get it
            self.close()
            raise
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        if ready:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)  # it closed its output: let it end as it will
        self.close()
        code = process.returncode  # of its own end, or of ours where it was late
        took = f"took more than {SLOW:.0f} s" if not ready else f"ended its process with {code}"
        return {"error": f"building the network {took}"}

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH")))),
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        # A session of its own: Ctrl-C is for the search. The end of its standard input ends it, however we end.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "spaces._builder", self.reference],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        return self._process


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
