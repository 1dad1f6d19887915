"""A process of our own that answers questions, one JSON line for one; it starts with the first and ends with us."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SLOW = 300.0  # seconds for one answer, the start of the process included
ROOT = str(Path(__file__).parents[1])


class Helper:
    """`python -m MODULE ARGUMENT`, which reads questions from its standard input and answers on its standard output.

    `work` says in words what a question has it do. It has no GPU. One question at a time: a lock is the asker's.
    """

    def __init__(self, module: str, argument: str, work: str) -> None:
        self.module, self.argument, self.work = module, argument, work
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """What the process says, or, as `error`, what became of it."""
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], SLOW)
            line = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            ready, line = [process.stdout], b""
        except BaseException:  # a question without its answer: the next one would get it
            self.close()
            raise
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        if ready:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)  # it closed its output: let it end as it will
        self.close()
        code = process.returncode  # of its own end, or of ours where it was late
        took = f"took more than {SLOW:.0f} s" if not ready else f"ended its process with {code}"
        return {"error": f"{self.work} {took}"}

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self.process is not None:
            self.process.kill()
            with contextlib.suppress(BrokenPipeError):  # of a question that was never read
                self.process.communicate()
            self.process = None

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH")))),
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        # A session of its own: Ctrl-C is for the search. The end of its standard input ends it, however we end.
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, self.argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        return self.process
