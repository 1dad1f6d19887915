"""What a study needs to be simulated: a table of recorded trainings that covers its space."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import InputError
from search.executors import table as tables
from search.executors.devices import Slot
from search.executors.table import Table
from search.reader import Reader
from spaces import Space, config_hash, declared

if TYPE_CHECKING:
    from search.plan import Plan, Request

EXECUTOR_NAMES = ("local", "simulate")
SIMULATE = "simulate"
TRACKED = "--untracked: only a simulation may leave no trace in MLflow; leave it out, or give --offline"


@lru_cache(maxsize=4)
def table(path: str) -> Table:
    """The table in a file, read once. Raises InputError."""
    return tables.read(Path(path))


def digest(path: str) -> str:
    """What tells a table from another: the first 16 digits of its file's SHA-256."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def options(request: Request, space: Space | None, read: Reader) -> dict[str, Any]:
    """Executor, table and its digest, as a plan has them; what is wrong with them is a problem of `read`."""
    executor = read.one_of("--executor", request.executor, EXECUTOR_NAMES, "local")
    if executor != SIMULATE:
        if request.untracked:
            read.problems.append(TRACKED)
        if request.table is not None:
            read.problems.append(f"--table {request.table}: only read with --executor simulate")
        return {}
    if request.table is None:
        read.problems.append("--executor simulate: give the recorded trainings with --table FILE (bench/tables/)")
        return {}
    path = str(Path(request.table).expanduser().absolute())
    try:
        found = table(path)
    except InputError as error:
        read.problems += error.problems
        return {}
    if space is not None and found.space != space.name:
        read.problems.append(f"--table {request.table}: recorded of the space {found.space}, not of {space.name}")
    elif space is not None and found.dataset != space.dataset:
        read.problems.append(f"--table {request.table}: recorded on {found.dataset}, not on {space.dataset}")
    return {"executor": SIMULATE, "table": path, "table_digest": digest(path)}


def check(plan: Plan, space: Space) -> list[str]:
    """What a simulated study asks for that its table does not have, one line each."""
    if plan.table is None:
        return []
    found, shown = table(plan.table), Path(plan.table).name
    problems = [
        f"{flag} {asked or 'all'}: {shown} was recorded with {had}"
        for flag, asked, had in (
            ("--train-images", plan.train_limit, found.train_images),
            ("--validation-images", plan.validation_limit, found.validation_images),
        )
        if asked != had
    ]
    if plan.epochs > found.epochs:
        problems.append(f"--epochs {plan.epochs}: {shown} was recorded with {found.epochs}")
    recipes = {space.recipe(dict(group[0].config)).schedule for group in found.curves.values()}
    if plan.epochs < found.epochs and recipes - {"constant"}:
        problems.append(
            f"--epochs {plan.epochs}: {shown} was recorded with {found.epochs}, on which learning rates depend"
        )
    problems += [
        f"{name}={parameter.describe()}: any number, but {shown} has points of a grid; give values like {name}=A,B"
        for name, parameter in declared(space, plan.narrowings).items()
        if math.isinf(parameter.size())
    ]
    return problems


def slots(request: Request, read: Reader, default: int = 1) -> tuple[Slot, ...]:
    """As many as are asked for, each of one core, whatever this machine has: costs are those of one."""
    if request.gpus not in (None, "none"):
        read.problems.append(f"--gpus {request.gpus}: nothing is trained in a simulation; leave it out")
    return tuple(Slot(i, (i,)) for i in range(read.whole("--slots", request.slots, default)))


def missing(plan: Plan, config: Mapping[str, Any]) -> str | None:
    """Why a configuration cannot be simulated; None where the study is not simulated or its table has it."""
    if plan.table is None or config_hash(config) in table(plan.table).curves:
        return None
    return f"not in {Path(plan.table).name}"


def open_table(plan: Plan) -> Table:
    """The table of a simulated study. Raises InputError where it is not the one it began with."""
    assert plan.table is not None
    found = table(plan.table)
    if digest(plan.table) != plan.table_digest:
        raise InputError(
            f"{plan.table} has changed since study {plan.study!r} began; put it back as it was, or start a new study"
        )
    return found


def alone(plans: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the stored plans of all studies of a store are of simulated ones, which can be had again."""
    return all(plan.get("executor") == SIMULATE for plan in plans)


def said(plan: Plan) -> list[str]:
    """What a person should know of a simulated study before it starts; nothing of another."""
    if plan.table is None:
        return []
    found = table(plan.table)
    kind = "made up by a formula" if found.synthetic else "recorded"
    return [f"simulated: {len(found.everything())} {kind} trainings of {plan.table} are replayed; times are theirs"]


def refuse(stored: Mapping[str, Any], study: str, verb: str) -> None:
    """Raises InputError for what needs a model, of a study in which none was trained."""
    if stored.get("executor") == SIMULATE:
        raise InputError(f"study {study!r} was simulated: no model was trained, so there is none to {verb}")
