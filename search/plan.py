"""Plan: all that a study needs, frozen; making one finds every problem of a request at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from search import simulated
from search.budget import Budget, read_budget, read_share, read_size
from search.choosing import choose
from search.engines import menu
from search.errors import InputError
from search.executors.devices import Gpu, Slot, cores, gpus, memory, share
from search.fitting import (
    Images,
    asked_goals,
    check_images,
    check_narrowings,
    choose_baselines,
    images_there,
    space_problems,
)
from search.goals import Goals, read_goals
from search.objectives import Objective, parse_objective
from search.reader import Reader
from search.settings import Settings, tracking_problem
from search.settings import problems as settings_problems
from spaces import Space, declared, find, name_of
from spaces.datasets import DataSpec, canonical, describe
from spaces.hypermodels.reference import parse

BACKENDS = ("tensorflow", "jax")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

SPACE_IN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# Where there is no GPU: one slot of two cores trains a small DenseNet 1.3 times as fast as two slots of one.
CORES_A_SLOT = 2

MOST_TRIALS = 1_000_000  # of a study
LEAST_MEMORY = 100.0  # MB of a trial; Python alone with numpy takes as much
MAX_FAILURES = 5  # failed trials in a row after which the fault is the study's
STALL = 900.0  # seconds without a sign of progress; compiling a large network takes minutes
MEMORY_SHARE = 0.9  # of the machine's memory, for all trials together
HERE = ("slots", "gpu_memory", "budget")  # not stored as they are: they depend on the machine, or are no plain value

# What makes a study the study it is: these cannot change when it goes on.
IDENTITY = (
    "space",
    "narrowings",
    "epochs",
    "sampler",
    "pruner",
    "audit",
    "seed",
    "train_limit",
    "validation_limit",
    "backend",
    "precision",
    "max_params",
    "full",
    "repeats",
    "merged",
    "dataset",
    "executor",
    "table_digest",
    "objectives",
    "limits",
    "warm_start",
)


OLDER = {
    "repeats": [],
    "merged": False,
    "dataset": None,
    "audit": 0.0,
    "executor": "local",
    "table_digest": None,
    "objectives": [],
    "limits": [],
    "warm_start": [],
}  # what a study of an older program did not say
LISTS = (
    *("baselines", "cuts", "left_out", "repeats", "auto", "why", "said", "objectives", "limits", "warm_start"),
)  # of a plan
DECLARED = "declared"  # in the plan a study began with: its hyperparameters then
DATA = "data"  # and the digest of its data


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for, as text; None where nothing was said."""

    space: str
    dataset: str | None = None
    narrow: tuple[str, ...] = ()
    trials: str | None = None
    epochs: str | None = None
    timeout: str | None = None
    slots: str | None = None
    gpus: str | None = None
    sampler: str | None = None
    pruner: str | None = None
    audit: str | None = None
    seed: str | None = None
    study: str | None = None
    backend: str | None = None
    precision: str | None = None
    max_params: str | None = None
    keep: str | None = None
    train_images: str | None = None
    validation_images: str | None = None
    worker_trials: str | None = None
    worker_memory: str | None = None
    trial_timeout: str | None = None
    stall_timeout: str | None = None
    budget: str | None = None
    trial_memory: str | None = None
    max_failures: str | None = None
    executor: str | None = None
    table: str | None = None
    untracked: bool = False
    objectives: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    full: bool = False
    baselines_only: bool = False
    warm_start: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One study, resolved. `trials` is the study's total; `keep` None keeps all weights.

    Timeouts are in seconds: of this run, of one trial over all its attempts, of a trial that shows no progress.
    `trial_memory` is in MB of one trial's processes, None where nobody said; `max_failures` is in a row.
    `cuts` says, line by line, what was cut because there is no GPU; `left_out` which baselines are not run and why.
    """

    space: str
    study: str
    narrowings: dict[str, str]
    trials: int
    epochs: int
    timeout: float | None
    slots: tuple[Slot, ...]
    sampler: str
    pruner: str
    seed: int
    backend: str
    precision: str
    max_params: int | None
    keep: int | None
    train_limit: int | None
    validation_limit: int | None
    worker_trials: int
    worker_memory: float
    trial_timeout: float | None = None
    stall_timeout: float | None = None
    budget: Budget | None = None
    trial_memory: float | None = None
    max_failures: int = MAX_FAILURES
    gpu_memory: float | None = None  # MB of the smallest share of a GPU
    full: bool
    baselines: tuple[str, ...]
    cuts: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    repeats: tuple[dict[str, Any], ...] = ()  # the configurations to train again, as search.repeats has them
    auto: tuple[str, ...] = ()  # what nobody named and the program chose, and why
    why: tuple[str, ...] = ()
    audit: float = 0.0  # share of stopped trials that go on to their end, to see whether stopping was right
    merged: bool = False  # trains on training and validation data together
    dataset: str | None = None  # another than the space's own
    executor: str = "local"
    table: str | None = None  # of recorded trainings, which a simulation replays
    table_digest: str | None = None
    said: tuple[str, ...] = ()  # of the space, for people
    objectives: tuple[str, ...] = ()  # as texts, the first one first; none where that is the space's own
    limits: tuple[str, ...] = ()  # as texts, on figures of a trial
    warm_start: tuple[str, ...] = ()  # earlier studies that it learns from, see search.warm

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, stored with the study."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in HERE}
        return values | {"slots": len(self.slots), "budget": None if self.budget is None else str(self.budget)}

    @property
    def memory(self) -> float:
        """What the processes of one trial may hold, in MB: `trial_memory`, or a fair part of this machine's."""
        return self.trial_memory or MEMORY_SHARE * memory() / len(self.slots)

    @property
    def memory_limit(self) -> float:
        """What a configuration must fit into, in MB: of its GPU where it has one."""
        return self.gpu_memory or self.memory

    def identity(self) -> dict[str, Any]:
        """What cannot change when the study goes on."""
        return {name: getattr(self, name) for name in IDENTITY}


def make(
    request: Request,
    settings: Settings,
    *,
    check_places: bool = True,
    offline: bool = True,
) -> Plan:
    """The plan of a request. Raises InputError with every problem found, before anything is touched.

    `check_places` looks at the stores too; unless `offline`, at MLflow's as well.
    """
    read = Reader()
    space = _space(request, read)
    dataset = _dataset(request, space, read)
    if space is not None and dataset is not None:
        space = replace(space, dataset=dataset)
    executed = simulated.options(request, space, read)
    found = () if executed else gpus()
    slots = simulated.slots(request, read) if executed else _slots(request, found, read)
    on_gpu = any(slot.gpu is not None for slot in slots)
    typed = _narrowings(request.narrow, read)
    cut = None if space is None or on_gpu or request.full else space.cut
    narrowings = (dict(cut.narrow) if cut else {}) | typed
    if space is not None and not space_problems(space, read):
        check_narrowings(space, narrowings, read)
        narrowings = {name: text for name, text in narrowings.items() if name in declared(space)}
    epochs = read.whole("--epochs", request.epochs, cut.epochs if cut else (space.epochs if space else 1))
    trials = read.whole(
        "--trials", request.trials, cut.trials if cut else (space.trials if space else 1), most=MOST_TRIALS
    )
    sized: Images = cut.images if cut else (space.images if space else (None, None))
    if space is not None:  # another dataset, or one that is there in part, may have fewer
        sized = images_there(space, sized)
    train = _limit("--train-images", request.train_images, sized[0], read)
    validation = _limit("--validation-images", request.validation_images, sized[1], read)
    plan_seed = read.whole("--seed", request.seed, 0, least=0)
    backend = read.one_of("--backend", request.backend or os.environ.get("KERAS_BACKEND"), BACKENDS, "tensorflow")
    precision = read.one_of("--precision", request.precision, PRECISIONS, "auto")
    objectives, bounds = asked_goals(space, request.objectives, request.limits, read)
    choice = choose(
        space,
        narrowings,
        read,
        sampler=request.sampler,
        pruner=request.pruner,
        trials=trials,
        epochs=epochs,
        slots=len(slots),
        only_known=request.baselines_only,
        objectives=max(len(objectives), 1),
    )
    audit = read.parsed("--audit", request.audit, read_share, "give a share of the stopped trials, like 0.1") or 0.0
    timeout = read.seconds("--timeout", request.timeout)
    max_params = None if request.max_params is None else read.whole("--max-params", request.max_params, 1)
    keep = None if request.keep == "all" else read.whole("--keep", request.keep, 5, least=0)
    worker_trials = read.whole("--worker-trials", request.worker_trials, 25)
    worker_memory = read.whole("--worker-memory", request.worker_memory, 4000, least=500)
    limits = _limits(request, slots, read)
    study = request.study or _new_name(name_of(request.space), datetime.now())
    if not SPACE_IN_NAME.fullmatch(study):
        read.problems.append(f"--study {study}: use letters, digits, dots, dashes and underscores, at most 100")
    if check_places:
        read.problems += settings_problems(settings)
        place = None if offline else tracking_problem(settings)
        read.problems += [place] if place else []
    check_images(space, train, validation, read)
    if request.baselines_only and request.trials is not None:
        read.problems.append(f"--baselines-only --trials {request.trials}: there are as many trials as baselines")
    if read.problems or space is None:
        raise InputError(list(dict.fromkeys(read.problems)))
    goals = read_goals(objectives, bounds, Objective(space.metric, space.direction))
    if not goals.by_epoch and menu.member("sampler", menu.read("sampler", choice.sampler).name).whole:
        raise InputError(
            f"--sampler {choice.sampler}: it compares epochs, which {goals.objectives[0].name} is no figure of"
        )
    choice = choice if goals.by_epoch else replace(choice, pruner="none")
    baselines, left_out = choose_baselines(space, narrowings, epochs, max_params, goals.limits)
    if request.baselines_only:
        if not baselines:
            raise InputError(["--baselines-only: no baseline fits what was asked for", *left_out])
        trials = len(baselines)
    by_hand = {
        "epochs": request.epochs,
        "trials": "as many as baselines" if request.baselines_only else request.trials,
        "train_limit": request.train_images,
        "validation_limit": request.validation_images,
    }
    made = Plan(
        space=str(space.reference or (space.path if request.space.endswith(".py") else request.space)),
        study=study,
        narrowings=narrowings,
        trials=trials,
        epochs=epochs,
        timeout=timeout,
        slots=slots,
        sampler=choice.sampler,
        pruner=choice.pruner,
        auto=choice.auto,
        why=choice.why,
        audit=audit,
        seed=plan_seed,
        backend=backend,
        precision=_precision(precision, slots, found) if space.half else _as_asked(precision),
        max_params=max_params,
        keep=keep,
        train_limit=train,
        validation_limit=validation,
        worker_trials=worker_trials,
        worker_memory=float(worker_memory),
        gpu_memory=_gpu_memory(slots, found),
        **limits,
        full=request.full,
        baselines=baselines,
        cuts=_cuts(space, sized, typed, {name for name, text in by_hand.items() if text is not None}) if cut else (),
        left_out=left_out,
        dataset=dataset,
        **executed,
        said=space.remarks,
        objectives=objectives,
        limits=bounds,
        warm_start=tuple(dict.fromkeys(request.warm_start)),
    )
    if problems := simulated.check(made, space):
        raise InputError(problems)
    return made


def _space(request: Request, read: Reader) -> Space | None:
    """The space asked for; a HyperModel is looked at with the images asked for, since it has none of its own."""
    if parse(request.space) is None:
        found: Space | None = read.attempt(lambda: find(request.space))
        return found
    dataset = None if request.dataset is None else read.attempt(lambda: canonical(request.dataset or ""))
    if request.dataset is not None and dataset is None:
        return None
    hypermodel: Space | None = read.attempt(lambda: find(request.space, dataset))
    return hypermodel


def _dataset(request: Request, space: Space | None, read: Reader) -> str | None:
    """The dataset asked for by the name it goes by everywhere; None where it is the space's own."""
    if request.dataset is None:
        return None
    asked = request.dataset
    found: str | None = read.attempt(lambda: canonical(asked))
    return None if space is not None and space.reference is None and found == space.dataset else found


def _limits(
    request: Request, slots: Sequence[Slot], read: Reader, stored: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What may change each time a study goes on; what is not said stays as it was stored."""
    before = stored or {}
    hint = "give device-hours like 8gpu-h or 90core-m"
    budget = read.parsed("--budget", request.budget, read_budget, hint)
    if budget is not None and budget.device == "gpu" and all(slot.gpu is None for slot in slots):
        read.problems.append(f"--budget {request.budget}: no GPU is used here; give core-hours like 8core-h")
    memory_hint = f"give MB, {LEAST_MEMORY:.0f} or more, or a size like 6gb"
    return {
        "trial_timeout": read.seconds("--trial-timeout", request.trial_timeout, before.get("trial_timeout")),
        "stall_timeout": read.seconds("--stall-timeout", request.stall_timeout, before.get("stall_timeout", STALL)),
        "budget": read_budget(before["budget"]) if request.budget is None and before.get("budget") else budget,
        "trial_memory": before.get("trial_memory")
        if request.trial_memory is None
        else read.parsed("--trial-memory", request.trial_memory, _trial_memory, memory_hint),
        "max_failures": read.whole("--max-failures", request.max_failures, before.get("max_failures", MAX_FAILURES)),
    }


def _trial_memory(text: str) -> float | None:
    size = read_size(text)
    return None if size is None or size < LEAST_MEMORY else size


def _gpu_memory(slots: Sequence[Slot], found: Sequence[Gpu]) -> float | None:
    """MB of the smallest share of a GPU that a trial gets; None where one runs without."""
    each = [
        g.memory * 1.048576 / sum(slot.gpu == g.index for slot in slots)
        for g in found
        for s in slots
        if s.gpu == g.index
    ]
    return MEMORY_SHARE * min(each) if len(each) == len(slots) else None


def describe_plan(plan: Plan) -> list[str]:
    """What a person should know before it starts."""
    nothing_drawn = plan.trials <= len(plan.baselines) and not plan.repeats
    drawn_by = "known settings only" if nothing_drawn else f"sampler {plan.sampler}"
    lines = [
        f"study {plan.study}: {_count(plan.trials, 'trial')} of at most {_count(plan.epochs, 'epoch')} on "
        f"{', '.join(slot.device for slot in plan.slots)}; {drawn_by}, pruner {plan.pruner}, "
        f"seed {plan.seed}, Keras on {plan.backend}, {plan.precision}"
    ]
    lines += _describe_goals(plan)
    if plan.cuts:
        lines.append("no GPU: the search is cut to size (--full turns this off)")
        lines += [f"  cut: {cut}" for cut in plan.cuts]
    if not nothing_drawn:
        lines += [f"  {reason}" for reason in plan.why]
    return lines + list(plan.said) + simulated.said(plan) + list(plan.left_out)


def _describe_goals(plan: Plan) -> list[str]:
    """What the study is after, where that is not the space's own objective alone."""
    objectives = [parse_objective(text) for text in plan.objectives]
    lines = []
    if objectives:
        goals = Goals(tuple(objectives), (), "", objectives[0].direction)
        what = "several objectives" if goals.several else f"{objectives[0].name} is no figure of an epoch"
        pruned = "" if goals.by_epoch else f"; {what}: nothing is pruned (pruner none)"
        named = ", ".join(objective.words for objective in objectives)
        lines.append(f"{'objectives' if goals.several else 'objective'}: {named}{pruned}")
    if plan.limits:
        lines.append(f"{'limits' if len(plan.limits) > 1 else 'limit'}: {', '.join(plan.limits)}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def resume(stored: Mapping[str, Any], request: Request) -> Plan:
    """The plan of a stored study, with what may change (trials, time, slots, what is kept) taken from the request.

    Raises InputError with every problem found.
    """
    read = Reader()
    replayed = stored.get("executor") == simulated.SIMULATE
    if request.untracked and not replayed:
        read.problems.append(simulated.TRACKED)
    found = () if replayed else gpus()
    asked = request if request.slots or request.gpus else replace(request, slots=str(stored["slots"]))
    slots = simulated.slots(asked, read) if replayed else _slots(asked, found, read)
    trials = read.whole("--trials", request.trials, stored["trials"], most=MOST_TRIALS)
    timeout = read.seconds("--timeout", request.timeout)
    keep = (
        stored["keep"]
        if request.keep is None
        else (None if request.keep == "all" else read.whole("--keep", request.keep, 5, least=0))
    )
    limits = _limits(request, slots, read, stored)
    if read.problems:
        raise InputError(read.problems)
    tuples = {name: tuple(stored.get(name, ())) for name in LISTS}
    changed = {
        "slots": slots,
        "trials": trials,
        "timeout": timeout,
        "keep": keep,
        "gpu_memory": _gpu_memory(slots, found),
    }
    return Plan(**(dict(stored) | tuples | changed | limits))


def as_begun(plan: Plan, stored: Mapping[str, Any] | None) -> Plan:
    """The plan with what nobody named as the study of that name, if there is one, began with it."""
    if stored is None:
        return plan
    return replace(plan, **{name: stored[name] for name in plan.auto if name in stored}, why=())


def check_identity(plan: Plan, stored: Mapping[str, Any]) -> None:
    """Raises InputError where `plan` would change what makes the stored study the study it is."""
    problems = []
    for name, value in plan.identity().items():
        before = stored.get(name, OLDER.get(name))
        if json.dumps(value, sort_keys=True) != json.dumps(before, sort_keys=True):
            problems.append(
                f"study {plan.study!r} was made with {name}={_show(before)}, not {_show(value)}; a study's {name} "
                f"cannot change: leave it out (python -m search resume {plan.study}) or start a new study"
            )
    if problems:
        raise InputError(problems)


def said_space(space: Space) -> dict[str, str]:
    """The hyperparameters that a space declares, each as a person would write its range."""
    return {name: parameter.describe() for name, parameter in declared(space).items()}


def noted_data(attributes: Mapping[str, Any]) -> str | None:
    """The digest of the images that a study began with, from its attributes; None where an older program made it."""
    found: str | None = attributes.get("plan.first", {}).get(DATA)
    return found


def check_data(study: str, space: Space, began_with: str | None) -> None:
    """Raises InputError where a study's images are not those that it began with."""
    now = describe(space.dataset).digest
    if began_with is not None and now != began_with:  # a study of an older program did not say
        raise InputError(
            f"the images of {space.dataset} have changed since study {study!r} began (digest {began_with[:12]}, now "
            f"{now[:12]}); put them back as they were, or start a new study (--study NAME)"
        )


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items()) or "nothing narrowed"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "none named"
    return str(value)


def _new_name(space: str, now: datetime) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", Path(space).name.removesuffix(".py"))
    return f"{stem}-{now:%Y%m%d-%H%M%S}"


def _narrowings(words: Sequence[str], read: Reader) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            read.problems.append(
                f"{word}: not key=value; fix a hyperparameter with key=3 or narrow it with key=3..9 or key=a,b"
            )
        elif name in found:
            read.problems.append(f"{word}: {name} is narrowed twice, to {found[name]} too; keep one")
        else:
            found[name] = text
    return found


def _slots(request: Request, found: tuple[Gpu, ...], read: Reader) -> tuple[Slot, ...]:
    available = cores()
    chosen: tuple[int, ...] = tuple(g.index for g in found)
    if request.gpus is not None and request.gpus != "none":
        try:
            chosen = tuple(dict.fromkeys(int(part) for part in request.gpus.split(",")))
        except ValueError:
            read.problems.append(f"--gpus {request.gpus}: give numbers like 0,1, or none")
        missing = [i for i in chosen if i not in {g.index for g in found}]
        if missing:
            there = ", ".join(f"{g.index} ({g.name})" for g in found) or "none"
            read.problems.append(
                f"--gpus {request.gpus}: no GPU {', '.join(map(str, missing))} on this machine; there: {there}"
            )
    elif request.gpus == "none":
        chosen = ()
    default = len(chosen) or max(1, len(available) // CORES_A_SLOT)
    count = read.whole("--slots", request.slots, default)
    return share(count, chosen, available)


def _limit(flag: str, text: str | None, default: int | None, read: Reader) -> int | None:
    if text == "all":
        return None
    before = len(read.problems)
    count = default if text is None else read.whole(flag, text, 1)
    return default if len(read.problems) > before else count


def _as_asked(precision: str) -> str:
    """For networks that are left as they are: half precision only where it was asked for."""
    return "float32" if precision == "auto" else precision


def _precision(asked: str, slots: Sequence[Slot], found: Sequence[Gpu]) -> str:
    """Half precision only where every GPU used computes in it: bfloat16 from capability 8, float16 from 7."""
    if asked != "auto":
        return asked
    used = {slot.gpu for slot in slots}
    capabilities = [g.compute_capability for g in found if g.index in used]
    if None in used or not capabilities or min(capabilities) < 7:
        return "float32"
    return "mixed_bfloat16" if min(capabilities) >= 8 else "mixed_float16"


def _there(data: DataSpec) -> tuple[int, int]:
    return data.fitting_size, data.validation_size


def _cuts(space: Space, sized: Images, typed: Mapping[str, str], by_hand: set[str]) -> tuple[str, ...]:
    """What the missing GPU cut, one line each, without what was set by hand."""
    cut, data = space.cut, describe(space.dataset)
    assert cut is not None
    train, validation = (n or there for n, there in zip(images_there(space, space.images), _there(data), strict=True))
    cut_train, cut_validation = (n or there for n, there in zip(sized, _there(data), strict=True))
    lines = {
        "train_limit": f"training images {train:,} -> {cut_train:,}, stratified",
        "validation_limit": f"validation images {validation:,} -> {cut_validation:,}, stratified",
        "epochs": f"epochs a trial {space.epochs} -> {cut.epochs}",
        "trials": f"trials {space.trials} -> {cut.trials}",
    }
    known = declared(space)
    narrowed = [f"{name} {known[name].describe()} -> {text}" for name, text in cut.narrow.items() if name not in typed]
    same = {
        "train_limit": train == cut_train,
        "validation_limit": validation == cut_validation,
        "epochs": space.epochs == cut.epochs,
        "trials": space.trials == cut.trials,
    }
    return (*(text for name, text in lines.items() if name not in by_hand and not same[name]), *narrowed)
