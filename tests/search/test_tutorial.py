"""The README's tutorial, typed as it stands: its files written, its commands run, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import environment

README = (Path(__file__).parents[2] / "README.md").read_text()


def files() -> dict[str, str]:
    return dict(re.findall(r"<!-- tutorial: (\S+\.py) -->\n```python\n(.*?)```", README, flags=re.DOTALL))


def commands() -> list[str]:
    block = re.search(r"<!-- tutorial: commands -->\n\n((?:    .*\n)+)", README)
    assert block is not None
    return [line.strip() for line in block[1].splitlines()]


def typed(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = line.replace("python -m search", f"{sys.executable} -m search")
    return subprocess.run(
        line, shell=True, cwd=folder, env=environment(folder / "home"), capture_output=True, text=True, check=False
    )


def follow(folder: Path, most: int | None = None, **smaller: str) -> list[str]:
    """What each of the first `most` commands printed; each of `smaller` is added to the command of that name."""
    for name, text in files().items():
        (folder / name).write_text(text)
    made = subprocess.run([sys.executable, "images.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    said = []
    for line in commands()[:most]:
        verb = line.split()[3]
        done = typed(f"{line} {smaller.get(verb, '')}", folder)
        assert done.returncode == 0, f"{line}: {done.stderr}{done.stdout}"
        assert "Traceback" not in done.stderr
        said.append(done.stdout + done.stderr)
    return said


def check(said: list[str]) -> None:
    plan, ran, best, resumed, promoted, predicted = said
    assert "parameters" in plan
    assert "promote first" in ran
    assert "blocks" in best
    assert "goes on" in resumed
    assert "champion" in promoted
    assert predicted.count("digit ") > 20


def test_the_tutorials_files_and_its_first_commands_work_as_they_are_written(tmp_path: Path) -> None:
    _plan, ran, best = follow(tmp_path, 3, run="--trials 1 --epochs 2 filters=8")
    assert "promote first" in ran
    assert "blocks" in best


@pytest.mark.long
def test_the_tutorial_works_at_its_full_length(tmp_path: Path) -> None:
    check(follow(tmp_path))
    best = typed("python -m search best first --json", tmp_path).stdout
    assert float(re.search(r'"value": ([0-9.]+)', best)[1]) > 0.9  # type: ignore[index]
