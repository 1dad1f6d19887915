"""What every result says beside its figures: the command, the date, the versions, the machine; as markdown."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tracking.provenance import collect

SHOWN = ("python", "tensorflow", "keras", "optuna", "mlflow")


def heading(module: str) -> list[str]:
    """The lines that say how the figures below were made."""
    facts = collect(Path.cwd())
    versions = ", ".join(f"{name} {facts.versions[name]}" for name in SHOWN if name in facts.versions)
    dirty = " with changes" if facts.dirty else ""
    return [
        f"- command: `{shlex.join(['python', '-m', module, *sys.argv[1:]])}`",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {(facts.commit or 'none')[:10]}{dirty}",
        f"- versions: {versions}",
        f"- machine: {', '.join(f'{k} {v}' for k, v in facts.hardware.items())}",
    ]


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A markdown table."""
    return [
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def write(path: Path, title: str, module: str, lines: Sequence[str]) -> None:
    """Write a result, with its heading, to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([f"# {title}", "", *heading(module), "", *lines]) + "\n")
