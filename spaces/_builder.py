"""Builds networks of one space and counts them: `python -m spaces._builder SPACE`, a JSON line in, a JSON line out."""

from __future__ import annotations

import gc
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

from spaces._contract import check, check_outputs, leaves
from spaces._find import find, line_of
from spaces._space import Space
from spaces.datasets._spec import spec_of


class Watched(dict[str, Any]):
    """A configuration that remembers which of its values were looked at.

    Looks at single values are counted one by one; whatever else is done with it may have looked at all of them.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.own, self.seen, self.whole = dict(values), set[str](), False

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict."""
        self.seen.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.seen.add(str(name))
        return super().__contains__(name)

    def looked_at(self) -> dict[str, Any] | None:
        """What was looked at, by name; None where that may be everything."""
        return None if self.whole else {name: self.own[name] for name in self.seen & set(self.own)}

    def absent(self) -> list[str]:
        """Names that were asked for and are not there."""
        return sorted(self.seen - set(self.own))


def _looks_at_all(name: str) -> Callable[..., Any]:
    def method(self: Watched, *arguments: Any, **named: Any) -> Any:
        self.whole = True
        return getattr(dict, name)(self, *arguments, **named)

    return method


NOT_LOOKS = {"__getitem__", "__contains__", "get", "__class_getitem__", "fromkeys"}
for _name in set(dir(dict)) - set(dir(object)) - NOT_LOOKS | {"__eq__", "__repr__"}:
    setattr(Watched, _name, _looks_at_all(_name))


def main() -> None:
    """Answer every line of standard input, until there are no more."""
    out = os.fdopen(os.dup(1), "w")  # what a space prints must not stand among the answers
    os.dup2(2, 1)
    space: Space | None = None
    for line in sys.stdin:
        order = json.loads(line)
        config, data = Watched(order["config"]), spec_of(order["data"])
        answer: dict[str, Any]
        try:
            space = space or find(sys.argv[1])
            network = space.build(config, data)
            check(network, data)
            check_outputs(network, data)
            answer = {"counts": counts(network)}
        except (Exception, SystemExit) as error:
            words = " ".join(str(error).split())[:300]
            at = line_of(error, space.path) if space and space.path else 1
            answer = {"error": f"{type(error).__name__}: {words}", "line": at}
        out.write(json.dumps(answer | {"looked_at": config.looked_at(), "absent": config.absent()}) + "\n")
        out.flush()
        forget()


def forget() -> None:
    """Let go of what was built, at little cost: what else is in memory by then stays and is not looked through."""
    import keras

    keras.backend.clear_session()
    if not gc.get_freeze_count():
        gc.freeze()


def counts(network: Any) -> dict[str, int]:
    """Weights, multiply-adds and outputs of a Keras model for one image.

    Every matrix or kernel of a layer is used once for each position of the layer's output: exact for dense layers and
    convolutions, nearly for others.
    """
    found = {"params": int(network.count_params()), "multiply_adds": 0, "activations": 0}
    for layer in leaves(network):
        shape = _output(layer)
        positions = math.prod(shape[:-1])
        found["multiply_adds"] += positions * sum(math.prod(w.shape) for w in layer.weights if len(w.shape) > 1)
        found["activations"] += math.prod(shape)
    return found


def _output(layer: Any) -> list[int]:
    """The shape of what a layer puts out for one image; of several outputs the first."""
    try:
        given = layer.output
    except (AttributeError, ValueError):  # never called, or shared by several places
        return [0]
    first = given[0] if isinstance(given, (list, tuple)) else given
    return [int(side or 1) for side in first.shape[1:]] or [1]


if __name__ == "__main__":
    main()
