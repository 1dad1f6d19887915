"""What `plan` prints: the size of the space, parameter counts at its corners, the time it may take."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.engines import menu
from search.engines.rungs import brackets, rungs
from search.plan import Plan, describe_plan
from search.report import emit, print_table
from search.settings import Settings
from search.sizes import combinations
from search.specs import space_of
from spaces import Defaults, Parameter, RandomDraws, Replay, Space, declared
from spaces._hp import show as show_value
from spaces.datasets import DataSpec, describe
from spaces.hypermodels.explore import Largest

# Multiply-adds a second while training, forward and backward counted as three forwards, where no earlier
# trial says better: one core (DenseNet k 12, l 3 trained at 200 to 250 images/s a core), one recent GPU (a guess).
CORE_RATE, GPU_RATE = 7e9, 1e12
TRIAL_SECONDS = 15.0  # building and tracing a network, before its first step


@dataclass(frozen=True)
class Corner:
    """The configuration with the fewest or the most parameters."""

    parameters: int
    config: dict[str, Any]


@dataclass(frozen=True)
class Estimate:
    """How long the plan may take, in seconds, and what that rests on."""

    seconds: float
    basis: str


def corners(space: Space, narrowings: Mapping[str, str], data: DataSpec) -> tuple[Corner, Corner]:
    """The smallest and the largest network of the space, found by moving one hyperparameter at a time."""
    parameters = declared(space, narrowings)
    return tuple(_corner(space, narrowings, data, parameters, sign) for sign in (1, -1))  # type: ignore[return-value]


def _corner(
    space: Space, narrowings: Mapping[str, str], data: DataSpec, parameters: Mapping[str, Parameter], sign: int
) -> Corner:
    drawn = (Corner(space.params(config, data), config) for config in _drawn(space, narrowings, data))
    best = min(drawn, key=lambda c: sign * c.parameters)
    if space.declare is not None:
        return min(best, *_at_once(space, narrowings, data, parameters, sign), key=lambda c: sign * c.parameters)
    for _ in range(2):
        for p in parameters.values():
            for value in p.choices or (p.low, p.high):
                moved = _sized(space, _Moved(best.config, p.name, value, narrowings), data)
                best = min(best, *moved, key=lambda c: sign * c.parameters)
    return best


def _at_once(
    space: Space, narrowings: Mapping[str, str], data: DataSpec, parameters: Mapping[str, Parameter], sign: int
) -> list[Corner]:
    """Each hyperparameter of the defaults moved alone, then all as was best: of few networks that must be built."""
    found, moves = _sized(space, Defaults(narrowings), data), {}
    for p in (p for p in parameters.values() if p.name in found[0].config):
        ends = p.grid() or (p.low, p.high)
        values = p.choices or (ends[0], ends[-1])
        moved = [(c, v) for v in values for c in _sized(space, _Moved(found[0].config, p.name, v, narrowings), data)]
        if moved:
            moves[p.name] = min(moved, key=lambda each: sign * each[0].parameters)
    alone = [corner for corner, _ in moves.values()]
    together = {name: value for name, (_, value) in moves.items()}
    kind = Defaults if sign > 0 else Largest
    return [*found, *alone, *_sized(space, kind(narrowings, together), data)]


class _Moved(Replay):
    """A configuration with a value changed; what that switches on is drawn at its default."""

    def __init__(self, config: Mapping[str, Any], name: str, value: Any, narrowings: Mapping[str, str]) -> None:
        super().__init__({**config, name: value}, narrowings)

    def draw(self, parameter: Parameter) -> Any:
        return super().draw(parameter) if parameter.name in self.config else parameter.default


def _drawn(space: Space, narrowings: Mapping[str, str], data: DataSpec) -> list[dict[str, Any]]:
    """Random configurations; the defaults, which the plan has tried, where sample() or build() fails on all of them."""
    found = []
    for seed in range(space.looks):
        with contextlib.suppress(Exception):  # that configuration's own fault, met where it is drawn
            config = space.sample(RandomDraws(seed, narrowings))
            space.params(config, data)
            found.append(config)
    return found or [space.sample(Defaults(narrowings))]


def _sized(space: Space, hp: Any, data: DataSpec) -> list[Corner]:
    """The network that `hp` draws; none where that is outside what was narrowed, or fails by its own fault."""
    try:
        config = space.sample(hp)
        return [Corner(space.params(config, data), config)]
    except Exception:
        return []


def epochs_a_trial(plan: Plan) -> float:
    """Epochs a searched trial is expected to train: all of them, or what successive halving leaves."""
    chosen = menu.read("pruner", plan.pruner)
    if chosen.name != "asha":
        return float(plan.epochs)
    options = menu.defaults("pruner", chosen)
    reduction = options["reduction_factor"]
    expected, alive, before = 0.0, 1.0, 0
    for rung in [*rungs(plan.epochs, options.get("min_resource"), reduction), plan.epochs]:
        expected, alive, before = expected + alive * (rung - before), alive / reduction, rung
    return expected


def estimate(plan: Plan, space: Space, data: DataSpec, settings: Settings) -> Estimate:
    """How long the plan may take on its slots."""
    images = plan.train_limit or data.fitting_size
    work = statistics.fmean(space.multiply_adds(config, data) for config in _drawn(space, plan.narrowings, data))
    baselines = [b for b in space.baselines if b.name in plan.baselines]
    epochs = max(0, plan.trials - len(baselines)) * epochs_a_trial(plan) * work + sum(
        (min(b.epochs, plan.epochs) if b.always else b.epochs) * space.multiply_adds(dict(b.config), data)
        for b in baselines
    )
    measured = _measured_rate(plan, space, data, settings)
    default = sum(GPU_RATE if s.gpu is not None else CORE_RATE * len(s.cores) for s in plan.slots) / len(plan.slots)
    rate = measured or default
    seconds = (3 * epochs * images / rate + plan.trials * TRIAL_SECONDS) / min(len(plan.slots), plan.trials)
    if plan.timeout is not None:
        seconds = min(seconds, plan.timeout)
    where = "earlier trials of this space" if measured else "a rule of thumb, since no trial of this space has run yet"
    return Estimate(seconds, where)


def _measured_rate(plan: Plan, space: Space, data: DataSpec, settings: Settings) -> float | None:
    """Multiply-adds a second of the trials of this space that this home has recorded on as many cores or GPUs."""
    from search import store

    rates = []
    for attempt in sorted((settings.home / "studies").glob("*/trial-*/attempt-1.json"))[-space.looks :]:
        spec = store.read_json(attempt) or {}
        epochs = store.epochs(attempt.parent)
        device = [e for e in store.events(attempt.parent) if e["event"] == "attempt"]
        same = (spec.get("space"), spec.get("dataset")) == (plan.space, plan.dataset)
        if same and epochs and device and device[0].get("slot") == plan.slots[0].device:
            speed = statistics.median(e["metrics"]["images_per_second"] for e in epochs)
            rates.append(3 * space.multiply_adds(spec["config"], data) * speed)
    return statistics.median(rates) if rates else None


def _stops(plan: Plan) -> list[str]:
    """Where trials are compared, or the brackets in which they are."""
    sampling, stopping = menu.read("sampler", plan.sampler), menu.read("pruner", plan.pruner)
    if sampling.name == "kt-hyperband":
        found = brackets(plan.epochs, menu.defaults("sampler", sampling)["factor"])
        lines = [
            f"  bracket of {rounds[0].trials}: "
            + ", then the best ".join(f"{r.trials} to epoch {r.epochs}" for r in rounds)
            for rounds in found
        ]
        whole = sum(rounds[0].trials for rounds in found)
        left = plan.trials - len(plan.baselines)
        return [*lines, f"  all brackets once are {whole} configurations; --trials {plan.trials} leaves {left} to them"]
    options = menu.defaults("pruner", stopping)
    if stopping.name == "asha":
        at = rungs(plan.epochs, options.get("min_resource"), options["reduction_factor"])
        then = "rest there until they are among them" if options["pause"] else "stop there"
        rest = f"trials are compared after {', '.join(map(str, at))} epochs; all but the best third {then}"
        return [f"  {rest}".replace("third", f"1 in {options['reduction_factor']}")] if at else []
    return []


def _only_where(parameter: Parameter) -> str:
    return " and ".join(f"{parent}={','.join(map(show_value, values))}" for parent, values in parameter.conditions)


def show(plan: Plan, settings: Settings, as_json: bool) -> None:
    """Print the plan."""
    from search.console import clock

    space = space_of(plan)
    data = describe(space.dataset)
    parameters = declared(space, plan.narrowings)
    count, continuous = combinations(parameters)
    small, large = corners(space, plan.narrowings, data)
    time = estimate(plan, space, data, settings)
    if as_json:
        return emit(
            plan.to_json()
            | {
                "hyperparameters": {n: p.describe() for n, p in parameters.items()},
                "combinations": count,
                "continuous": continuous,
                "fewest_parameters": vars(small),
                "most_parameters": vars(large),
                "estimated_seconds": round(time.seconds),
                "estimate_rests_on": time.basis,
            }
        )
    for line in [*describe_plan(plan), *_stops(plan)]:
        print(line)
    if plan.warm_start:
        print(f"learns from {', '.join(plan.warm_start)}; what of them fits is said when it runs")
    print_table(
        ("hyperparameter", "values", "only where"),
        [(name, p.describe(), _only_where(p)) for name, p in parameters.items()],
    )
    kinds = f" times {len(continuous)} continuous ({', '.join(continuous)})" if continuous else ""
    print(f"size of the space: {count:,.0f} combinations{kinds}")
    for name, corner in (("fewest", small), ("most", large)):
        print(
            f"{name} parameters: {corner.parameters:,} with "
            + " ".join(f"{c}={show_value(v)}" for c, v in corner.config.items())
        )
    for baseline in space.baselines:
        state = "runs first" if baseline.name in plan.baselines else "left out"
        print(
            f"baseline {baseline.name} ({state}): {space.params(dict(baseline.config), data):,} parameters, "
            f"{baseline.epochs} epochs; {baseline.source}"
        )
    print(f"estimated time: {clock(time.seconds)} (from {time.basis})")
    return None
