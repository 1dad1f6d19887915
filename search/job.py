"""Runs one piece of Keras work in a process of its own, so that the command line stays free of Keras."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.errors import JobError
from search.executors.devices import Slot, cores, gpus, share
from search.executors.environment import importable, keras_environment


def place(*, gpu: bool = True) -> Slot:
    """All cores of this machine and, where `gpu`, its first GPU."""
    return share(1, tuple(each.index for each in gpus()[:1]) if gpu else (), cores())[0]


def run(module: str, order: Mapping[str, Any], *, backend: str, gpu: bool = True) -> dict[str, Any]:
    """Give `order` to `python -m module` and return the JSON object that it answers; without `gpu` on the processor.

    Raises JobError with the last line of what it said where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="keras-search-") as folder:
        asked, answer, said = Path(folder, "order.json"), Path(folder, "answer.json"), Path(folder, "said")
        asked.write_text(json.dumps(dict(order)))
        with said.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(asked), str(answer)],
                env=importable(keras_environment(place(gpu=gpu), backend)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if code:
            lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
            raise JobError(lines[-1].strip() if lines else f"{module} ended with {code}")
        found: dict[str, Any] = json.loads(answer.read_text())
        return found
