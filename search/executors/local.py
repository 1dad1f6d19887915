"""Runs trials on this machine: one worker process a slot, started once, reused, replaced when it dies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from search.errors import ExecutorError
from search.executors.devices import Slot
from search.trial.spec import TrialSpec, decode, encode

SECRET = re.compile("PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|ACCESS_KEY|API_KEY")
START_LIMIT = 240.0  # seconds for a worker to import Keras
END_LIMIT = 10.0  # seconds for an idle worker to end by itself


@dataclass
class Worker:
    """One process and what is known of it; `number` is the trial it runs."""

    slot: Slot
    process: subprocess.Popen[bytes]
    pipe: Connection
    log: Path
    started: float
    ready: bool = False
    number: int | None = None
    trials: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Died:
    """A worker ended without being told to, with what it last wrote."""

    exit_code: int
    last_line: str

    def __str__(self) -> str:
        how = f"signal {signal.Signals(-self.exit_code).name}" if self.exit_code < 0 else f"exit {self.exit_code}"
        return f"the worker died ({how}): {self.last_line}" if self.last_line else f"the worker died ({how})"


class LocalExecutor:
    """Workers for `slots`. Use it as a context manager; leaving it ends every process.

    A worker is replaced after `max_trials` trials, or when it holds more than `max_memory` MB.
    """

    def __init__(
        self,
        slots: tuple[Slot, ...],
        folder: Path,
        *,
        backend: str,
        max_trials: int = 25,
        max_memory: float = 4000.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.slots, self.folder, self.backend = slots, folder, backend
        self.max_trials, self.max_memory = max_trials, max_memory
        self.environment = dict(environment or {})
        self._workers: dict[int, Worker] = {}
        self._early_deaths = 0

    def __enter__(self) -> LocalExecutor:
        self.folder.mkdir(parents=True, exist_ok=True)
        for slot in self.slots:
            self._spawn(slot)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self, slot: Slot) -> None:
        ours, theirs = Pipe()
        log = self.folder / f"worker-{slot.index}.log"
        arguments = [
            str(theirs.fileno()),
            ",".join(map(str, slot.cores)),
            "none" if slot.gpu is None else str(slot.gpu),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "search.trial.worker", *arguments],
                env=self._environment(slot),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is the coordinator's to handle
            )
        theirs.close()
        self._workers[slot.index] = Worker(slot, process, ours, log, time.monotonic())

    def _environment(self, slot: Slot) -> dict[str, str]:
        threads = str(len(slot.cores))
        inherited = {name: value for name, value in os.environ.items() if not _is_secret(name, value)}
        visible = {"CUDA_VISIBLE_DEVICES": "" if slot.gpu is None else str(slot.gpu)}
        return (
            inherited
            | visible
            | {
                "KERAS_BACKEND": self.backend,
                "SEARCH_SEALED": "1",
                "OMP_NUM_THREADS": threads,
                "TF_NUM_INTRAOP_THREADS": threads,
                "TF_NUM_INTEROP_THREADS": "1" if len(slot.cores) == 1 else "2",
                "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                **({"JAX_PLATFORMS": "cpu"} if slot.gpu is None else {}),
            }
            | self.environment
        )

    def free(self) -> list[Slot]:
        """The slots whose worker waits for a trial."""
        return [w.slot for w in self._workers.values() if w.ready and w.number is None]

    def submit(self, slot: Slot, spec: TrialSpec) -> None:
        """Start a trial on a free slot."""
        worker = self._workers[slot.index]
        worker.number, worker.trials = spec.number, worker.trials + 1
        self.answer(slot, {"do": "run", "spec": spec.to_json()})

    def answer(self, slot: Slot, message: dict[str, Any]) -> None:
        """Answer what a worker asked; a dead one is noticed at the next `events`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._workers[slot.index].pipe.send_bytes(encode(message))

    def events(self, timeout: float) -> Iterator[tuple[Slot, int, dict[str, Any] | Died]]:
        """What the trials sent, as (slot, trial number, message), or Died; waits at most `timeout` seconds.

        Raises ExecutorError where workers cannot start.
        """
        by_pipe = {w.pipe: w for w in self._workers.values()}
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                message = decode(worker.pipe.recv_bytes())
            except (EOFError, OSError):
                died, number = self._bury(worker), worker.number
                if number is not None:
                    yield worker.slot, number, died
                continue
            if message["event"] == "ready":
                self._greet(worker, message)
            elif message["event"] == "idle":
                worker.number = None
                if worker.trials >= self.max_trials or message["memory"] > self.max_memory:
                    self._end(worker)
                    self._spawn(worker.slot)
            elif worker.number is not None:
                yield worker.slot, worker.number, message
        for worker in list(self._workers.values()):
            if not worker.ready and time.monotonic() - worker.started > START_LIMIT:
                raise ExecutorError(f"a worker did not start within {START_LIMIT:.0f} s; its log: {worker.log}")

    def _greet(self, worker: Worker, message: dict[str, Any]) -> None:
        if message["wanted_gpu"] and not message["gpus"]:
            raise ExecutorError(
                f"GPU {worker.slot.gpu} is there, but Keras on {message['backend']} cannot use it; install the extra "
                "`gpu` (pip install -c constraints.txt -e '.[gpu]'), or run on the processor with --gpus none"
            )
        worker.ready, worker.facts, self._early_deaths = True, message, 0

    def _bury(self, worker: Worker) -> Died:
        code = worker.process.wait()
        worker.pipe.close()
        number_log = self._trial_log(worker)
        died = Died(code, _last_line(number_log) or _last_line(worker.log))
        if not worker.ready:
            self._early_deaths += 1
            if self._early_deaths > len(self.slots):
                raise ExecutorError(f"workers die before they take a trial: {died}; the log: {worker.log}")
        self._spawn(worker.slot)
        return died

    def _trial_log(self, worker: Worker) -> Path:
        logs = sorted(self.folder.glob(f"trial-{worker.number or 0:04}/attempt-*.log"))
        return logs[-1] if worker.number is not None and logs else worker.log

    def _end(self, worker: Worker) -> None:
        self.answer(worker.slot, {"do": "end"})
        try:
            worker.process.wait(END_LIMIT if worker.ready else 0.1)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.pipe.close()

    def close(self, *, kill: bool = False) -> None:
        """End every worker: idle ones by themselves, the rest (all, with `kill`) at once."""
        for worker in self._workers.values():
            if kill or worker.number is not None or not worker.ready:
                worker.process.kill()
            else:
                self.answer(worker.slot, {"do": "end"})
        for worker in self._workers.values():
            self._end(worker)
        self._workers.clear()


def _is_secret(name: str, value: str) -> bool:
    """Whether a worker has no business with this variable: stores, credentials, addresses with a password."""
    if name.startswith(("MLFLOW_", "PG", "POSTGRES_", "AWS_", "AZURE_")) or name == "SEARCH_STORAGE":
        return True
    return bool(SECRET.search(name.upper())) or "@" in value.partition("://")[2].partition("/")[0]


def _last_line(log: Path) -> str:
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1].strip()[:300] if lines else ""
