"""How many trials are launched into lack of memory, on a space of which about a third does not fit.

python -m bench.oom --sampler tpe
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench import report
from bench.places import ROOT, environment

FLAGS = ("--train-images", "64", "--validation-images", "16", "--epochs", "1", "--pruner", "none", "--keep", "0")
FIT = 0.67  # the share of random configurations that shall fit
LEARNING = 20  # trials at first, whose failures teach


def search(home: Path, study: str, *words: str) -> list[dict[str, Any]]:
    """Run a study over bench/hog.py to its end; its trials. Raises RuntimeError where it fails."""
    space = str(ROOT / "bench" / "hog.py")
    command = [sys.executable, "-m", "search", "run", space, *FLAGS, "--slots", "1", "--study", study, *words]
    env = environment(home, PYTHONPATH=str(ROOT))
    ran = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    shown = [sys.executable, "-m", "search", "show", study, "--json"]
    found = subprocess.run(shown, cwd=home, env=env, capture_output=True, text=True, check=True)
    return list(json.loads(found.stdout))


def limit_for(home: Path, trials: int) -> float:
    """The memory, in MB, into which FIT of random configurations fit."""
    seen = search(home, "free", "--trials", str(trials), "--sampler", "random", "--seed", "99")
    peaks = sorted(t["peak_memory"] for t in seen if t["peak_memory"])
    return float(peaks[int(FIT * len(peaks))])


@click.command()
@click.option("--sampler", "samplers", multiple=True, default=("tpe", "random", "qmc"), show_default=True)
@click.option("--trials", default=100, show_default=True, help="Trials a sampler.")
@click.option("--calibrate", default=30, show_default=True, help="Random trials from which the limit is taken.")
@click.option("--home", type=click.Path(path_type=Path), help="Keep everything here.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here, as markdown.")
def main(samplers: Sequence[str], trials: int, calibrate: int, home: Path | None, out: Path | None) -> None:
    """Count the launches into lack of memory; exit 1 where more than 5 come after the first 20 trials."""
    place = (home or Path(tempfile.mkdtemp(prefix="oom-"))).absolute()
    place.mkdir(parents=True, exist_ok=True)
    limit = limit_for(place, calibrate)
    click.echo(f"limit: {limit:.0f} MB")
    rows, worst = [], 0
    for sampler in samplers:
        words = ("--trials", str(trials), "--sampler", sampler, "--trial-memory", f"{limit:.0f}mb")
        found = search(place, sampler, *words)
        failed = [t["trial"] for t in found if t["reason"] == "oom"]
        late = sum(n >= LEARNING for n in failed)
        worst = max(worst, late)
        rows.append((sampler, len(found), len(failed) - late, late, found[-1]["trial"] + 1 - len(found)))
        click.echo(" ".join(map(str, rows[-1])))
    heads = ("sampler", "trials", f"out of memory, first {LEARNING}", "out of memory, later", "refused before launch")
    text = [f"- limit: {limit:.0f} MB, into which {FIT:.0%} of {calibrate} random trials fitted", ""]
    text += report.table(heads, rows)
    click.echo("\n".join(text))
    if out is not None:
        report.write(out, "Trials launched into lack of memory", "bench.oom", text)
    sys.exit(1 if worst > 5 else 0)


if __name__ == "__main__":
    main()
