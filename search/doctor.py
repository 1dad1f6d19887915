"""Checks what a search needs on this machine: devices, packages, data, stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from search.errors import FAILED, OK
from search.executors import devices
from search.report import emit, print_table
from search.settings import Settings, masked, tracking_problem
from search.settings import problems as settings_problems

PACKAGES = ("tensorflow", "keras", "keras-tuner", "optuna", "mlflow", "numpy", "scikit-learn")
EXTRAS = {"jax": "--backend jax", "psycopg": "a study store on PostgreSQL"}
LEAST_FREE = 5e9  # bytes
BATCHES = [100, 2]  # images that --benchmark convolves at a time


@dataclass(frozen=True)
class Check:
    """One thing looked at: `state` is ok, note (works, but worth knowing) or problem."""

    what: str
    state: str
    found: str


def examine(settings: Settings, as_json: bool, benchmark: bool = False) -> int:
    """Print every check, with `benchmark` how fast this machine convolves too; 1 where one is a problem."""
    checks = list(_checks(settings))
    if benchmark:
        checks += _convolutions()
    failed = any(c.state == "problem" for c in checks)
    if as_json:
        emit({"ok": not failed, "checks": [asdict(c) for c in checks]})
    else:
        print_table(("what", "", "found"), [(c.what, c.state, c.found) for c in checks])
    return FAILED if failed else OK


def _checks(settings: Settings) -> Iterator[Check]:
    yield Check("python", "ok", sys.version.split()[0])
    for name in PACKAGES:
        yield _package(name)
    for name, needed_for in EXTRAS.items():
        found = _package(name)
        yield found if found.state == "ok" else Check(name, "note", f"not installed; needed for {needed_for}")
    cores, memory = devices.cores(), psutil.virtual_memory()
    yield Check(
        "processor",
        "ok",
        f"{len(cores)} cores, {memory.total / 1e9:.0f} GB memory, {memory.available / 1e9:.0f} GB free",
    )
    yield from _gpus()
    yield from _places(settings)
    yield from _studies(settings)
    yield from _data(settings)


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "problem", "not installed; pip install -c constraints.txt -e .")


def _gpus() -> Iterator[Check]:
    found = devices.gpus()
    if not found:
        yield Check("gpu", "note", "none; searches are cut to size (--full turns that off)")
        return
    for gpu in found:
        yield Check(
            f"gpu {gpu.index}", "ok", f"{gpu.name}, {gpu.memory} MiB, compute capability {gpu.compute_capability}"
        )
    code = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    try:
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)
        seen = ran.stdout.strip()
    except subprocess.TimeoutExpired:
        seen = "no answer"
    usable = seen.isdigit() and int(seen) >= len(found)
    yield Check(
        "tensorflow's gpus",
        "ok" if usable else "problem",
        f"{seen} of {len(found)}" + ("" if usable else "; pip install -c constraints.txt -e '.[gpu]'"),
    )


def _convolutions() -> Iterator[Check]:
    """How many times faster the GPU convolves than the processor, a line for each batch size."""
    from search import job
    from search.errors import JobError
    from search.registered import own_backend

    backend = own_backend()
    try:
        found = job.run("search.trial.convolve", {"batches": BATCHES}, backend=backend)
    except JobError as error:
        yield Check("convolution", "problem", f"{backend}: {error}")
        return
    for place, batch in enumerate(BATCHES):
        processor = found["cpu"][place]
        said = f"{backend}: processor {1000 * processor:.3g} ms"
        if found["gpu"] is None:
            yield Check(f"convolution of {batch} images", "note", f"{said}; no GPU to compare it with")
            continue
        gpu = found["gpu"][place]
        said += f", GPU {1000 * gpu:.3g} ms: {processor / gpu:.3g} times as fast"
        yield Check(f"convolution of {batch} images", "ok" if gpu < processor else "note", said)


def _places(settings: Settings) -> Iterator[Check]:
    problems = settings_problems(settings)
    home = settings.home
    yield Check("home", "problem" if any(p.startswith("home") for p in problems) else "ok", str(home))
    existing = home
    while not existing.exists():
        existing = existing.parent
    free = psutil.disk_usage(str(existing)).free
    yield Check("disk", "ok" if free > LEAST_FREE else "problem", f"{free / 1e9:.0f} GB free at {existing}")
    store = [p for p in problems if p.startswith("--storage")]
    yield Check("study store", "problem" if store else "ok", store[0] if store else masked(settings.storage))
    tracking = tracking_problem(settings)
    yield Check("tracking", "problem" if tracking else "ok", tracking or masked(settings.tracking_uri))


def _studies(settings: Settings) -> Iterator[Check]:
    """A line for each study that waits for somebody: to resume it, to reconcile it, to clean up after it."""
    from search import report
    from search.engines import optuna as engine
    from search.errors import SearchError
    from search.mirror import MIRRORED

    try:
        names = report.names(settings)
    except SearchError:
        return  # the study store has its own line
    for name in sorted({p.parent.name for p in (settings.home / "studies").glob("*/study.json")} - set(names)):
        yield Check(
            f"study {name}",
            "problem",
            f"gone from the study store, its folder is there: python -m search reconcile {name}",
        )
    for name in names:
        study = report.load(name, settings)
        if report.owner_of(study, settings):
            continue
        trials = engine.counted(study.get_trials(deepcopy=False))
        done = {t.number for t in trials if t.state.is_finished()}
        behind = done - set(study.user_attrs.get(MIRRORED, ()))
        if len(done) < len(trials):
            yield Check(
                f"study {name}", "note", f"{len(trials) - len(done)} unfinished trials: python -m search resume {name}"
            )
        if behind:
            yield Check(
                f"study {name}",
                "note",
                f"{len(behind)} trials may be missing in MLflow: python -m search reconcile {name}",
            )
        if _waste(settings.study_folder(name), done):
            yield Check(f"study {name}", "note", f"files nobody needs any more: python -m search gc {name}")


def _waste(folder: Path, done: set[int]) -> bool:
    from search import store
    from search.trial import checkpoints

    old = any(checkpoints.files(store.trial_folder(folder, number)) for number in done)
    return old or bool(store.half_written(folder))


def _data(settings: Settings) -> Iterator[Check]:
    from spaces.datasets import names

    where = settings.data
    if where is not None:
        yield Check(
            "SEARCH_DATA",
            "ok" if where.is_dir() else "problem",
            f"{where}" if where.is_dir() else f"{where}: no such folder",
        )
    for name in names():
        yield _dataset(name, settings.cache / name)


def _dataset(name: str, folder: Path) -> Check:
    from spaces.datasets import verify
    from spaces.errors import DatasetError

    if not folder.is_dir():
        return Check(f"dataset {name}", "note", "not in the cache yet; fetched at the first run")
    try:
        verify(name, folder)
    except DatasetError as error:
        return Check(f"dataset {name}", "problem", str(error))
    size = sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
    return Check(f"dataset {name}", "ok", f"{folder}, {size / 1e6:.0f} MB, every array checked")
