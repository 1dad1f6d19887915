"""Where a result came from: the code, the versions, the machine, the command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracking.probe import masked

PACKAGES = ("keras", "tensorflow", "jax", "optuna", "mlflow", "numpy", "scikit-learn", "keras-tuner")
MAX_DIFF = 2**20  # bytes
COMMIT_VARIABLE = "SEARCH_GIT_COMMIT"  # set where the code runs without its checkout, as in a container

_GIT_LIMIT = 20.0  # seconds
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_SECRET = re.compile(r"(^|[-_.])(password|passwd|pwd|secret|token|api[-_]?key|credentials?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Provenance:
    """All that is needed to make a result again, except its data and seeds; empty where unknown."""

    commit: str
    branch: str
    dirty: bool
    diff: str
    versions: dict[str, str]
    hardware: dict[str, str]
    command: str


def collect(folder: Path) -> Provenance:
    """The provenance of a program started in `folder`; without a git checkout the commit is SEARCH_GIT_COMMIT's."""
    commit, branch, diff = _git_state(folder)
    return Provenance(
        commit=commit or os.environ.get(COMMIT_VARIABLE, ""),
        branch=branch,
        dirty=bool(diff),
        diff=diff,
        versions=versions(),
        hardware=hardware(),
        command=masked_command(sys.argv),
    )


def versions() -> dict[str, str]:
    """Python's version and those of the packages that matter; absent ones are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str]:
    """The processor, the cores this process may use, the memory and the system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    found = {"cpu": _cpu(), "cores": str(cores), "platform": platform.platform()}
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return found
    return found | {"memory": f"{size / 2**30:.1f} GiB"}


def masked_command(arguments: Sequence[str]) -> str:
    """A command line as one string, with passwords in addresses and the values of secret options hidden."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        is_secret = bool(_SECRET.search(name)) and (name.startswith("-") or bool(equals))
        if hide_next and not argument.startswith("-"):
            shown.append("***")
        elif is_secret and equals:
            shown.append(f"{name}=***")
        else:
            shown.append(masked(argument))
        hide_next = is_secret and not equals
    return " ".join(shown)


def _git_state(folder: Path) -> tuple[str, str, str]:
    """Commit, branch, and what differs from it; all empty outside a checkout."""
    if _git(folder, "rev-parse", "--is-inside-work-tree").strip() != "true":
        return "", "", ""
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD").strip()
    # Somebody's external diff program or text converter has no business here.
    diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "--no-color", commit or _EMPTY_TREE)
    # Of untracked files the names only: they may be large, or not meant for others.
    names = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/").splitlines()
    untracked = "".join(f"# untracked: {name}\n" for name in names)
    return commit, branch, _cut(diff + untracked)


def _git(folder: Path, *arguments: str) -> str:
    """What git prints, or nothing where it fails or does not exist."""
    command = ["git", "-C", str(folder), "-c", "core.quotePath=false", *arguments]
    quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_LIMIT, env=quiet, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def _cut(text: str) -> str:
    content = text.encode()
    if len(content) <= MAX_DIFF:
        return text
    return content[:MAX_DIFF].decode("utf-8", "ignore") + f"\n# cut: {len(content)} bytes in all\n"


def _cpu() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            for line in lines:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
