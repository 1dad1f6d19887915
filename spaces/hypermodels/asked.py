"""What build() and fit() of one HyperModel draw and build: seen here before, noted, or asked of a helper process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spaces._helper import Helper
from spaces._hp import Defaults, HyperParameters, Parameter, Replay, narrow
from spaces._space import Config, canonical
from spaces.datasets import DataSpec, describe
from spaces.errors import BrokenSpace, BuildFailed, SpaceError, UnknownSpace
from spaces.hypermodels import noted
from spaces.hypermodels.draws import Built, Known, Step, built_of, parameter_of
from spaces.hypermodels.explore import explored

BUILDS = 200  # after which the helper process is replaced: it grows
NOTED = 1000  # steps that are noted at most
PATIENCE = 3.0  # seconds after which a person is told what takes so long


@functools.cache
def _known(reference: str, dataset: str) -> list[Asked]:
    return []


def asked(reference: str, dataset: str) -> Asked:
    """The same for the same, as long as its code is the same."""
    kept = _known(reference, dataset)
    if kept and not noted.unchanged(kept[0].sources):
        kept.pop().close()
    if not kept:
        kept.append(Asked(reference, dataset))
    return kept[0]


class Asked:
    """What build() and fit() of one HyperModel draw on images of one dataset; a helper process is asked what is new."""

    def __init__(self, reference: str, dataset: str) -> None:
        self.reference, self.dataset = reference, dataset
        self.helper = Helper("spaces.hypermodels.builder", reference, "building its network")
        self._about: dict[str, Any] = {}
        self._steps = Known()
        self._noted = self._builds = 0
        self._plain: dict[str, Parameter] | None = None  # by name what has no variant, once all was looked at
        self._declared: dict[str, dict[str, Parameter]] = {}
        self._lock = threading.RLock()
        self._since = self._said = 0.0

    # ---- what a space is asked

    def sample(self, hp: HyperParameters) -> Config:
        """Draw with `hp` as build() and fit() do. Raises BuildFailed where they fail."""
        with self._lock:
            if self._plain is None:
                self._plain = self.declared({})
            self._walk(hp, variants=True)
        return dict(hp.values)

    def built(self, config: Mapping[str, Any]) -> Built:
        """The network of a configuration. Raises BuildFailed."""
        with self._lock:
            built = self._walk(Replay(config)).built
        assert built is not None
        return built

    def declared(self, narrowings: Mapping[str, str]) -> dict[str, Parameter]:
        """Every hyperparameter, looked for once."""
        key = canonical(narrowings)
        with self._lock:
            if key not in self._declared:
                self._since = time.monotonic()
                found = explored(self._walk, narrowings)
                self._declared[key] = found | self._variants(found, narrowings)
                self._since = 0.0
                self._note()
        return dict(self._declared[key])

    def _variants(self, found: Mapping[str, Parameter], narrowings: Mapping[str, str]) -> dict[str, Parameter]:
        """Other hyperparameters of the same names, by name and what they are."""
        plain = self._plain if self._plain is not None else dict(found)
        others: dict[str, Parameter] = {}
        for parameter in self._steps.parameters():
            told = _told_apart(parameter, plain)
            if told.variant and parameter.name in found:
                with contextlib.suppress(SpaceError):  # narrowed away
                    others[told.own_name] = narrow(told, narrowings.get(told.name, told.describe()))
        return others

    def first(self) -> Built:
        """The network of the defaults. Raises BrokenSpace where it cannot be built."""
        with self._lock:
            self._recall()
            self._since = time.monotonic()
            try:
                built = self._walk(Defaults()).built
            except BuildFailed as error:
                raise BrokenSpace(f"{self.path}:{error.line}: {error.function}() failed: {error}") from error
            self._since = 0.0
        assert built is not None
        return built

    def networks(self) -> list[Built]:
        """Every network that was built so far."""
        return list(self._steps.networks())

    def remarks(self, first: Built) -> tuple[str, ...]:
        """What a person should know of how it is trained."""
        compared = f"{first.accuracy} on validation images" if first.accuracy else "loss on validation images"
        said = (
            f"as it is: images in 0 to 1, {first.labels} labels, loss {first.loss}, optimizer {first.optimizer}, "
            f"batches of {first.batch_size}; compared by {compared}"
        )
        return (said, *dict.fromkeys(remark for built in self._steps.networks() for remark in built.remarks))

    @property
    def path(self) -> Path:
        """The file that it is in."""
        return Path(self._about["path"])

    @property
    def sources(self) -> dict[str, str]:
        """The SHA-256 of each file of its code, by its path."""
        found: dict[str, str] = self._about.get("sources", {})
        return found

    def close(self) -> None:
        """End the helper process; nothing is noted any more."""
        self._noted = NOTED
        self.helper.close()

    # ---- what was seen before

    @functools.cached_property
    def data(self) -> DataSpec:
        """The images."""
        return describe(self.dataset)

    def _recall(self) -> None:
        """What was noted, else what the helper process says of the code. Raises UnknownSpace and BrokenSpace."""
        if self._about:
            return
        found = noted.recall(self.reference, self.data)
        if found is not None:
            self._about, self._steps = found["about"], Known.from_json(found["steps"])
            self._noted = len(self._steps.steps)
        else:
            self._about = self._ask_about()
        atexit.register(self._note)

    def _ask_about(self) -> dict[str, Any]:
        said = self.helper.ask({"about": vars(self.data)})
        if "error" in said:
            kind = UnknownSpace if said.get("refused") == "unknown" else BrokenSpace
            raise kind(said["error"] if "refused" in said else f"{self.reference}: {said['error']}")
        return said

    def _note(self) -> None:
        """Note what is new, for as long as it is not too much."""
        if not self._noted < len(self._steps.steps) <= NOTED:
            return
        self._noted = len(self._steps.steps)
        noted.note(self.reference, self.data, {"about": self._about, "steps": self._steps.to_json()})

    # ---- drawing

    def _walk(self, hp: HyperParameters, *, variants: bool = False) -> Step:
        """Draw with `hp` until the network is built. Raises BuildFailed."""
        self._recall()
        drawn: list[tuple[str, Any]] = []
        step = self._steps.after(drawn)
        while step is not None and step.parameter is not None:
            drawn.append((step.parameter.name, self._meet(hp, step, variants)))
            step = self._steps.after(drawn)
        if step is None:
            step = self._converse(hp, drawn, variants)
        self._pass(hp, step, variants)
        if step.error:
            raise BuildFailed(step.error, step.line, step.function, fatal=step.fatal)
        return step

    def _meet(self, hp: HyperParameters, step: Step, variants: bool) -> Any:
        """What `hp` draws for the parameter of a step."""
        self._pass(hp, step, variants)
        assert step.parameter is not None
        return hp.meet(self._apart(step.parameter, variants), active=True)

    def _pass(self, hp: HyperParameters, step: Step, variants: bool) -> None:
        """What is switched off before a step."""
        for each in step.idle:
            hp.meet(self._apart(each, variants), active=False)

    def _apart(self, parameter: Parameter, variants: bool) -> Parameter:
        return _told_apart(parameter, self._plain or {}) if variants else parameter

    def _converse(self, hp: HyperParameters, drawn: list[tuple[str, Any]], variants: bool) -> Step:
        """Have a network built, answering for each hyperparameter: as `drawn` says first, then as `hp` draws."""
        self._tell()
        known, drawn[:] = list(drawn), []
        said = self.helper.ask({"build": vars(self.data)})
        while "draw" in said:
            idle = tuple(parameter_of(each) for each in said["idle"])
            step = Step(idle, parameter_of(said["draw"]))
            assert step.parameter is not None
            name = step.parameter.name
            if len(drawn) < len(known):
                if known[len(drawn)][0] != name:
                    self.helper.ask({"give_up": True})
                    return self._ended(known, Step(error=_by_chance(known[len(drawn)][0], name)))
                value = known[len(drawn)][1]
            else:
                self._steps.note(drawn, step)
                try:
                    value = self._meet(hp, step, variants)
                except BaseException:
                    self.helper.ask({"give_up": True})
                    raise
            drawn.append((name, value))
            said = self.helper.ask({"value": value})
        idle = tuple(parameter_of(each) for each in said.get("idle", ()))
        if "built" in said:
            return self._ended(drawn, Step(idle, built=built_of(said["built"])))
        place = {name: said[name] for name in ("function", "line", "fatal") if name in said}
        return self._ended(drawn, Step(idle, error=said["error"], **place))

    def _ended(self, drawn: list[tuple[str, Any]], step: Step) -> Step:
        self._steps.note(drawn, step)
        self._builds += 1
        if self._builds % BUILDS == 0:
            self.helper.close()
        return step

    def _tell(self) -> None:
        """Say once what takes so long, where a person waits for it."""
        if self._since and not self._said and time.monotonic() - self._since > PATIENCE:
            self._said = time.monotonic()
            print(f"{self.reference}: its networks are built to see what they draw", file=sys.stderr, flush=True)


def _told_apart(parameter: Parameter, plain: Mapping[str, Parameter]) -> Parameter:
    """With its variant where another of its name was met first, or none was when all was looked at."""
    known = plain.get(parameter.name)
    same = known is not None and replace(known, conditions=parameter.conditions) == parameter
    return parameter if same else replace(parameter, variant=parameter.describe())


def _by_chance(before: str, now: str) -> str:
    return (
        f"after the same values it draws {now!r}, and drew {before!r} before: what is drawn must depend on nothing but "
        "the values drawn before"
    )
