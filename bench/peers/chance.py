"""Plain random search: every trial to its end, none twice."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Literal

from bench.simulation import Ask, Ending, Verdict
from spaces import RandomDraws, Space, config_hash


class Chance:
    """Draws every hyperparameter uniformly among its values."""

    def __init__(self, space: Space, seed: int, epochs: int, slots: int) -> None:
        self._drawn, self.epochs = self._draw(space, seed), epochs

    def _draw(self, space: Space, seed: int) -> Iterator[Ask]:
        draws, known, repeats = RandomDraws(seed), set[str](), 0
        while repeats < 10_000:
            draws.values.clear()
            draws.declared.clear()
            config = space.sample(draws)
            name = config_hash(config)
            repeats = repeats + 1 if name in known else 0
            if name not in known:
                known.add(name)
                yield Ask(len(known), config, self.epochs)

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """The next configuration."""
        return next(self._drawn, "done")

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """It goes on."""
        return "go"

    def ended(self, trial: Hashable, how: Ending) -> None:
        """Nothing is learned."""
