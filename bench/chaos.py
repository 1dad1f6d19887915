"""Kills a real search at aimed and at random instants, resumes it, and counts what was lost, doubled or left behind.

python -m bench.chaos --kills 200
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
import optuna
from mlflow import MlflowClient

from bench import audit, report
from bench.audit import Harm, StudyLeft
from bench.instants import SHARES, Deck
from bench.places import Server, environment, patient
from bench.proxy import Proxy
from bench.siege import Kill, Siege, Snare

SEEDS = 3  # studies of different seeds take turns, so that a reference serves several
METRIC, DIRECTION = "val_accuracy", "maximize"
# Small enough for seconds a trial; dropout, augmentation and schedules are drawn as the space says.
SIZE = ("conv_layers=1,2", "filters=8,16", "--train-images", "400", "--validation-images", "100")
LOADING = """
import sys
import numpy as np, mlflow
mlflow.set_tracking_uri(sys.argv[1])
for model in sys.argv[2:]:
    out = np.asarray(mlflow.pyfunc.load_model(f"models:/{model}").predict(np.zeros((2, 8, 8, 1), np.uint8)))
    assert out.shape == (2, 10) and np.allclose(out.sum(axis=1), 1, atol=1e-4), model
"""


@dataclass(frozen=True)
class Options:
    """How much to kill, and of what kind; `victims` are the shares of each."""

    kills: int
    seed: int = 0
    slots: int = 1
    trials: int = 8
    epochs: int = 8
    seeds: int = SEEDS
    victims: Mapping[str, int] = field(default_factory=lambda: SHARES)


@dataclass
class Result:
    """What came of it; a harm's text names its study, which names its seed."""

    kills: list[Kill] = field(default_factory=list)
    harms: list[tuple[str, Harm]] = field(default_factory=list)
    studies: int = 0
    asked: int = 0
    done: int = 0
    runs: int = 0
    equal: int = 0
    compared: int = 0
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """Harms by kind."""
        found = Counter(harm.kind for _, harm in self.harms)
        return {kind: found[kind] for kind in audit.KINDS}


def bombard(
    options: Options,
    home: Path,
    said: Callable[[str], None] = print,
    audited: Callable[[Result], None] = lambda result: None,
) -> Result:
    """Kill `options.kills` times in studies under `home`, and audit each study once it has come to its end.

    `audited` gets the result so far after each study, so that a bench cut short has one.
    """
    result, started = Result(), time.monotonic()
    server, snare = Server(_made(home / "server")), Snare()
    server.start()
    references: dict[int, StudyLeft] = {}
    try:
        with Proxy(server.uri, snare.loses) as proxy, patient():
            while len(result.kills) < options.kills:
                index = result.studies
                seed = 100 * options.seed + index % options.seeds
                if seed not in references:
                    references[seed] = reference(options, seed, home, said)
                siege = _siege(options, index, seed, home, server, snare, proxy, said)
                # By study, so that one can be looked at again; a kill's place in the list names it.
                deck = Deck(random.Random(f"{options.seed}:{index}"), dict(options.victims))
                whole = siege.run(deck, options.kills - len(result.kills))
                _take(result, siege, references[seed] if whole else None, server, said)
                result.seconds = time.monotonic() - started
                audited(result)
    finally:
        server.kill()
    result.seconds = time.monotonic() - started
    return result


def reference(options: Options, seed: int, home: Path, said: Callable[[str], None] = print) -> StudyLeft:
    """The study of that seed run once without a kill, all weights kept, in stores of its own."""
    place, name = _made(home / f"reference-{seed}"), f"reference-{seed}"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "search", "run", "cnn_digits", *_flags(options, seed, "all"), "--study", name],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the reference failed: {done.stderr[-2000:]}")
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    left = audit.read(place, name, client, place / "artifacts", metric=METRIC, direction=DIRECTION)
    for harm in audit.harms(left, left):
        raise RuntimeError(f"the reference itself is wrong: {harm}")
    said(f"{name}: {len(left.trials)} trials without a kill in {time.monotonic() - began:.0f} s")
    return left


def _flags(options: Options, seed: int, keep: str) -> list[str]:
    size = ["--trials", str(options.trials), "--epochs", str(options.epochs), "--slots", str(options.slots)]
    return [*SIZE, *size, "--seed", str(seed), "--keep", keep]


def _siege(
    options: Options,
    index: int,
    seed: int,
    home: Path,
    server: Server,
    snare: Snare,
    proxy: Proxy,
    said: Callable[[str], None],
) -> Siege:
    name = f"study-{index:03}-seed-{seed}"
    return Siege(
        name=name,
        home=home / name,
        flags=_flags(options, seed, "2" if index % 3 == 2 else "all"),
        tracking_uri=proxy.uri,
        server=server,
        snare=snare,
        rng=random.Random(f"{options.seed}:{index}:pauses"),
        trials=options.trials,
        said=said,
    )


def _take(result: Result, siege: Siege, compare: StudyLeft | None, server: Server, said: Callable[[str], None]) -> None:
    result.studies += 1
    result.kills += siege.kills
    result.harms += [(siege.name, harm) for harm in siege.harms]
    result.asked += siege.trials
    if compare is None:
        return
    client = MlflowClient(server.uri)
    left = audit.read(siege.home, siege.name, client, server.files, metric=METRIC, direction=DIRECTION)
    found = audit.harms(left, compare)
    if problem := _cannot_load(server.uri, sorted(left.kept.values())[:2]):
        found.append(Harm(audit.MODELS, problem))
    equal, compared = audit.weights_equal(left, compare)
    result.equal, result.compared = result.equal + equal, result.compared + compared
    result.done += sum(t.state not in ("RUNNING", "WAITING") for t in left.trials)
    result.runs += sum(len(t.runs) for t in left.trials)
    result.harms += [(siege.name, harm) for harm in found]
    said(f"{siege.name}: done after {len(siege.kills)} kills, {len(found)} harms, weights equal {equal} of {compared}")
    for harm in found:
        said(f"HARM {siege.name}: {harm}")


def _cannot_load(uri: str, models: list[str]) -> str:
    """Why these logged models cannot be loaded and used; empty where they can."""
    env = environment(Path.cwd(), TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
    done = subprocess.run(
        [sys.executable, "-c", LOADING, uri, *models], env=env, capture_output=True, text=True, check=False
    )
    return done.stderr[-500:] if done.returncode else ""


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plain(instant: str) -> str:
    return instant.partition(" +")[0].partition(" (")[0].rstrip("0123456789 ")


def lines(result: Result) -> list[str]:
    """The result as markdown."""
    by_victim = Counter(kill.victim for kill in result.kills)
    by_instant = Counter(_plain(kill.instant) for kill in result.kills)
    again = sum(kill.again for kill in result.kills)
    head = [
        ("kills", len(result.kills)),
        ("studies", result.studies),
        ("trials asked", result.asked),
        ("trials done", result.done),
        ("runs of trials", result.runs),
        *result.counts().items(),
        ("weights equal", f"{result.equal} of {result.compared}"),
        ("epochs run again", again),
        ("seconds a kill, all included", f"{result.seconds / max(1, len(result.kills)):.1f}"),
    ]
    found = [f"- {study}: {harm}" for study, harm in result.harms] or ["None."]
    return [
        *report.table(("what", "count"), head),
        "",
        "## Kills by victim",
        "",
        *report.table(("victim", "kills"), by_victim.most_common()),
        "",
        "## Kills by instant",
        "",
        *report.table(("instant", "kills"), by_instant.most_common()),
        "",
        "## Harms",
        "",
        *found,
        "",
        "## Every kill",
        "",
        *(f"{number}. {kill}" for number, kill in enumerate(result.kills, 1)),
    ]


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=200, show_default=True, help="How often to kill.")
@click.option("--seed", default=0, show_default=True, help="Of the instants and of the studies.")
@click.option("--slots", default=1, show_default=True, help="With more than one, weights need not be equal.")
@click.option("--trials", default=8, show_default=True, help="Of each study.")
@click.option("--epochs", default=8, show_default=True, help="Of each trial.")
@click.option(
    "--home", type=click.Path(path_type=Path), help="Keep everything here (default: a folder that is removed)."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here, as markdown.")
def main(kills: int, seed: int, slots: int, trials: int, epochs: int, home: Path | None, out: Path | None) -> None:
    """Kill a real search again and again; exit 1 if anything came to harm."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing it started lives on
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = (home or Path(tempfile.mkdtemp(prefix="chaos-"))).absolute()
    options = Options(kills=kills, seed=seed, slots=slots, trials=trials, epochs=epochs)

    def write(so_far: Result) -> None:
        if out is not None:
            report.write(out, "Kills at random and aimed instants", "bench.chaos", lines(so_far))

    result = bombard(options, place, click.echo, write)
    text = lines(result)
    click.echo("\n".join(text[: text.index("## Every kill")]))
    write(result)
    if not result.harms and home is None:
        shutil.rmtree(place, ignore_errors=True)
    else:
        click.echo(f"everything is kept in {place}")
    sys.exit(1 if result.harms else 0)


if __name__ == "__main__":
    main()
