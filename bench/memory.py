"""Resident memory of the coordinator over many trials that do nothing, seen from outside.

python -m bench.memory --trials 1000
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil

from bench import report
from bench.places import ROOT, environment

FLAGS = (
    "--train-images",
    "10",
    "--validation-images",
    "10",
    "--sampler",
    "random",
    "--pruner",
    "none",
    "--epochs",
    "1",
)
SETTLED = 200  # trials, after which memory should stay where it is
INTERVAL = 0.5  # seconds between two looks


@dataclass(frozen=True)
class Sample:
    """Trials told so far, seconds since the start, resident and private (not shared, not on disk) memory in MB."""

    trials: int
    seconds: float
    resident: float
    private: float


def measure(trials: int, home: Path, *words: str, said: Callable[[str], None] = print) -> tuple[list[Sample], int]:
    """Run that many trials and sample the coordinator; (samples, exit code). Its output stays in `home`/log.

    `said` hears a line every 100 trials.
    """
    home.mkdir(parents=True, exist_ok=True)
    log, samples, started = home / "log", list[Sample](), time.monotonic()
    command = ["run", str(ROOT / "bench" / "tiny.py"), *FLAGS, "--slots", "1", "--trials", str(trials), *words]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "search", *command],
            cwd=home,
            env=environment(home, PYTHONPATH=str(ROOT)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            # Read before the count, so that a sample is never credited with trials that came after it.
            memory = seen.memory_full_info()
            samples.append(Sample(_told(log), time.monotonic() - started, memory.rss / 1e6, memory.uss / 1e6))
            now, before = samples[-1], samples[-2:][0]
            if now.trials // 100 > before.trials // 100:
                said(f"{now.trials} trials: {now.resident:.0f} MB after {now.seconds:.0f} s")
            time.sleep(INTERVAL)
    except psutil.Error:  # it ended between two looks
        pass
    finally:
        if process.poll() is None:
            process.terminate()
    return samples, process.wait()


def _told(log: Path) -> int:
    return len(re.findall(rb"^trial \d+ (?:complete|failed|pruned) ", log.read_bytes(), re.MULTILINE))


def slope(samples: list[Sample]) -> float:
    """MB of resident memory per 100 trials after the first SETTLED (all, where there are not twice as many)."""
    last = samples[-1].trials
    kept = [s for s in samples if s.trials >= (SETTLED if last >= 2 * SETTLED else 1)]
    if len({s.trials for s in kept}) < 2:
        return 0.0
    return float(np.polyfit([s.trials for s in kept], [s.resident for s in kept], 1)[0]) * 100


def lines(samples: list[Sample], step: int) -> list[str]:
    """The result as markdown: a row every `step` trials."""
    rows: list[tuple[object, ...]] = []
    before: Sample | None = None
    for mark in range(step, samples[-1].trials + 1, step):
        at = next(s for s in samples if s.trials >= mark)
        cost = (at.seconds - before.seconds) / (at.trials - before.trials) if before else float("nan")
        rows.append((at.trials, f"{at.resident:.0f}", f"{at.private:.0f}", f"{at.seconds:.0f}", f"{cost:.2f}"))
        before = at
    peak = max(samples, key=lambda s: s.resident)
    return [
        f"- trials: {samples[-1].trials}; in all {samples[-1].seconds:.0f} s",
        f"- peak: {peak.resident:.0f} MB resident after {peak.trials} trials; end: {samples[-1].resident:.0f} MB",
        f"- slope after the first {SETTLED} trials: {slope(samples):+.2f} MB per 100 trials",
        "",
        *report.table(("trials", "resident MB", "private MB", "seconds", "seconds a trial"), rows),
    ]


@click.command()
@click.option("--trials", default=1000, show_default=True, help="How many.")
@click.option("--home", type=click.Path(path_type=Path), help="Keep everything here (default: removed).")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here, as markdown.")
def main(trials: int, home: Path | None, out: Path | None) -> None:
    """Measure the coordinator's memory; exit 1 if the study failed."""
    place = (home or Path(tempfile.mkdtemp(prefix="memory-"))).absolute()
    samples, code = measure(trials, place, "--keep", "0", "--study", "memory", said=click.echo)
    text = lines(samples, max(1, trials // 10))
    click.echo("\n".join(text))
    if out is not None:
        report.write(out, "The coordinator's memory over trials that do nothing", "bench.memory", text)
    if code:
        click.echo(f"the study ended with {code}; see {place / 'log'}")
    elif home is None:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(1 if code else 0)


if __name__ == "__main__":
    main()
