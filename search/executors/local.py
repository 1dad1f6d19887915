"""Runs trials on this machine: one worker process a slot, started once, reused, replaced when it dies."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from search.errors import ExecutorError
from search.executors import processes
from search.executors.devices import Slot
from search.executors.died import Died, kernel_kills, last_line
from search.executors.environment import keras_environment
from search.trial.spec import TrialSpec, decode, encode

START_LIMIT = 240.0  # seconds for a worker to import Keras
END_LIMIT = 10.0  # seconds for an idle worker to end by itself
AFTER_GRACE = 10.0  # seconds from the end of a stop order's grace to SIGTERM
AFTER_TERM = 10.0  # seconds from that to SIGKILL
AFTER_KILL_ORDER = 5.0  # seconds from the SIGTERM of `kill` to SIGKILL
MEASURE = 0.5  # seconds between two looks at how much memory the trials hold
SOON = 0.05  # seconds between two looks at a worker that is ending
METERS = ("nvidia-smi",)  # what a worker itself runs between trials

Event = tuple[Slot, int, dict[str, Any] | Died]


@dataclass
class Worker:
    """One process and what is known of it; `number` is the trial it runs.

    `term_at` and `kill_at` are when it gets SIGTERM and, with all that it started, SIGKILL, by the monotonic clock.
    """

    slot: Slot
    process: subprocess.Popen[bytes]
    pipe: Connection
    log: Path
    token: str
    started: float
    heard: float
    ready: bool = False
    deaf: bool = False  # nothing more will come from it
    number: int | None = None
    trials: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    told: bool = False
    why: str = ""
    killed: bool = False
    peak: float | None = None
    kernel_kills: int = 0
    term_at: float = math.inf
    kill_at: float = math.inf


class LocalExecutor:
    """Workers for `slots`. Use it as a context manager; leaving it ends every process that it or a trial started.

    A worker is replaced after `max_trials` trials, when it holds more than `max_memory` MB, and after an error. A trial
    whose worker holds, with all that it started, more than `trial_memory` MB is killed (None: never).
    """

    def __init__(
        self,
        slots: tuple[Slot, ...],
        folder: Path,
        *,
        backend: str,
        max_trials: int = 25,
        max_memory: float = 4000.0,
        trial_memory: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.slots, self.folder, self.backend = slots, folder, backend
        self.max_trials, self.max_memory, self.trial_memory = max_trials, max_memory, trial_memory
        self.environment = dict(environment or {})
        self._workers: dict[int, Worker] = {}
        self._ending: list[Worker] = []  # replaced already
        self._warden: subprocess.Popen[bytes] | None = None
        self._early_deaths = 0
        self._measured = 0.0

    def __enter__(self) -> LocalExecutor:
        self.folder.mkdir(parents=True, exist_ok=True)
        for slot in self.slots:
            self._spawn(slot)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- starting

    def _spawn(self, slot: Slot) -> None:
        token = uuid.uuid4().hex
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
                env=self._environment(slot, token),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is the coordinator's to handle
            )
        theirs.close()
        now = time.monotonic()
        self._workers[slot.index] = Worker(slot, process, ours, log, token, started=now, heard=now)
        self._guard(f"+{token}")

    def _guard(self, *lines: str) -> None:
        """Tell the warden, started again where it has gone, of a token that came (+) or went (-)."""
        if self._warden is None or self._warden.poll() is not None:
            self._warden = subprocess.Popen(
                [sys.executable, "-m", "search.executors.warden"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
            lines = tuple(f"+{worker.token}" for worker in (*self._workers.values(), *self._ending))
        if not lines or self._warden.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._warden.stdin.write("".join(f"{line}\n" for line in lines).encode())

    def _environment(self, slot: Slot, token: str) -> dict[str, str]:
        sealed = {"SEARCH_SEALED": "1", processes.TOKEN: token}
        return keras_environment(slot, self.backend) | self.environment | sealed

    # ---- orders

    def free(self) -> list[Slot]:
        """The slots whose worker waits for a trial."""
        return [w.slot for w in self._workers.values() if w.ready and w.number is None and not w.deaf]

    def submit(self, slot: Slot, spec: TrialSpec) -> None:
        """Start a trial on a free slot."""
        worker = self._workers[slot.index]
        worker.number, worker.trials = spec.number, worker.trials + 1
        worker.heard, worker.peak, worker.kernel_kills = time.monotonic(), None, kernel_kills()
        self.answer(slot, {"do": "run", "spec": spec.to_json()})

    def answer(self, slot: Slot, message: dict[str, Any]) -> None:
        """Answer what a worker asked, or give it an order; a dead one is noticed at the next `events`."""
        self._send(self._workers[slot.index], message)

    def stop(self, slot: Slot, grace: float) -> None:
        """Have the trial of a slot write a checkpoint and end, its running epoch within `grace` seconds.

        It answers `done`, stopped; a worker that does not is ended by `events`, which then yields Died, told. A slot
        without a trial is left alone.
        """
        worker = self._workers[slot.index]
        if worker.number is None:
            return
        worker.term_at = min(worker.term_at, time.monotonic() + grace + AFTER_GRACE)
        worker.kill_at = min(worker.kill_at, worker.term_at + AFTER_TERM)
        self._send(worker, {"do": "stop", "grace": grace})

    def kill(self, slot: Slot) -> None:
        """End the worker of a slot now: SIGTERM, so that it writes what it has, SIGKILL soon after.

        `events` yields Died, told, where it ran a trial, and starts another worker.
        """
        self._terminate(self._workers[slot.index], AFTER_KILL_ORDER)

    def silent(self, slot: Slot) -> float:
        """Seconds since the worker of a slot was last heard of, or since it got its trial."""
        return time.monotonic() - self._workers[slot.index].heard

    # ---- hearing

    def events(self, timeout: float) -> Iterator[Event]:
        """What the trials sent, as (slot, trial number, message), or Died; waits at most `timeout` seconds.

        Orders to stop are seen through and memory limits kept in here: call it often. Raises ExecutorError where
        workers cannot start.
        """
        by_pipe = {w.pipe: w for w in self._workers.values() if not w.deaf}
        ending = self._ending or len(by_pipe) < len(self._workers)
        for pipe in wait(list(by_pipe), min(timeout, SOON) if ending else timeout):
            yield from self._hear(by_pipe[pipe])  # type: ignore[index]
        self._measure()
        for worker in list(self._workers.values()):
            self._escalate(worker)
            if worker.process.poll() is not None:
                # A process it left behind may hold the pipe open, so that its end never comes.
                while not worker.deaf and worker.pipe.poll():
                    yield from self._hear(worker)
                if self._workers[worker.slot.index] is worker:
                    yield from self._bury(worker)
            elif not worker.ready and time.monotonic() - worker.started > START_LIMIT:
                raise ExecutorError(f"a worker did not start within {START_LIMIT:.0f} s; its log: {worker.log}")
        self._ending = [worker for worker in self._ending if not self._ended(worker)]
        self._guard()

    def _hear(self, worker: Worker) -> Iterator[Event]:
        try:
            message = decode(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            worker.deaf = True
            worker.kill_at = min(worker.kill_at, time.monotonic() + END_LIMIT)
            return
        worker.heard = time.monotonic()
        worker.peak = message.get("peak_memory", worker.peak)
        if message["event"] == "ready":
            self._greet(worker, message)
        elif message["event"] == "idle":
            number = worker.number
            left = processes.end([worker.token], session=worker.process.pid, spare=self._spared(worker))
            if left and number is not None:
                yield worker.slot, number, {"event": "leftovers", "names": left}
            worker.number = None
            worker.told, worker.term_at, worker.kill_at = False, math.inf, math.inf
            fit = message.get("fit", True)
            if not fit or worker.trials >= self.max_trials or message["memory"] > self.max_memory:
                self._replace(worker, at_once=not fit)
        elif worker.number is not None:
            yield worker.slot, worker.number, message

    def _spared(self, worker: Worker) -> list[int]:
        return [worker.process.pid, *(p.pid for p in processes.children(worker.process.pid, METERS))]

    def _greet(self, worker: Worker, message: dict[str, Any]) -> None:
        if message["wanted_gpu"] and not message["gpus"]:
            raise ExecutorError(
                f"GPU {worker.slot.gpu} is there, but Keras on {message['backend']} cannot use it; install the extra "
                "`gpu` (pip install -c constraints.txt -e '.[gpu]'), or run on the processor with --gpus none"
            )
        if self.trial_memory is not None and message["memory"] >= self.trial_memory:
            raise ExecutorError(
                f"a trial may use {self.trial_memory:,.0f} MB, a worker holds {message['memory']:,.0f} MB before it "
                "trains anything; give more with --trial-memory, or fewer --slots"
            )
        worker.ready, worker.facts, self._early_deaths = True, message, 0

    # ---- ending

    def _escalate(self, worker: Worker) -> None:
        now = time.monotonic()
        if now >= worker.kill_at:
            worker.told = worker.told or not worker.deaf
            self._kill(worker)
        elif now >= worker.term_at:
            self._terminate(worker, AFTER_TERM)

    def _terminate(self, worker: Worker, patience: float) -> None:
        worker.told = True
        worker.term_at, worker.kill_at = math.inf, min(worker.kill_at, time.monotonic() + patience)
        worker.process.terminate()

    def _kill(self, worker: Worker) -> None:
        """SIGKILL to a worker and all that it started; safe to repeat."""
        worker.killed = worker.killed or worker.process.poll() is None
        worker.kill_at = time.monotonic() + 1.0  # again, should anything be left
        worker.process.kill()
        processes.end([worker.token], session=worker.process.pid, spare=[worker.process.pid])

    def _bury(self, worker: Worker) -> Iterator[Event]:
        died, number = self._died(worker), worker.number
        self._sweep(worker)
        if not worker.ready and not worker.told:
            self._early_deaths += 1
            if self._early_deaths > len(self.slots):
                raise ExecutorError(f"workers die before they take a trial: {died}; the log: {worker.log}")
        del self._workers[worker.slot.index]
        self._spawn(worker.slot)
        if number is not None:
            yield worker.slot, number, died

    def _died(self, worker: Worker) -> Died:
        code = worker.process.wait()
        by_kernel = code == -9 and not worker.killed and kernel_kills() > worker.kernel_kills
        return Died(
            exit_code=code,
            last_line=last_line(self._trial_log(worker)) or last_line(worker.log),
            told=worker.told,
            oom=worker.number is not None and (bool(worker.why) or by_kernel),
            peak_memory=worker.peak,
            why=worker.why,
        )

    def _sweep(self, worker: Worker) -> None:
        """A worker has ended: end what it left behind."""
        processes.end([worker.token], session=worker.process.pid)
        worker.pipe.close()
        self._guard(f"-{worker.token}")

    def _replace(self, worker: Worker, *, at_once: bool) -> None:
        """Start another worker in its place; this one ends by itself, or now where it has nothing to lose."""
        if at_once:
            self._kill(worker)
        else:
            self._send(worker, {"do": "end"})
            worker.kill_at = time.monotonic() + END_LIMIT
        self._ending.append(worker)
        del self._workers[worker.slot.index]
        self._spawn(worker.slot)

    def _ended(self, worker: Worker) -> bool:
        self._escalate(worker)
        if worker.process.poll() is None:
            return False
        self._sweep(worker)
        return True

    def close(self, *, kill: bool = False) -> None:
        """End every worker: idle ones by themselves, one with a trial by SIGTERM, so that it writes what it has.

        With `kill`, and after seconds without, all of them and all that they started are killed.
        """
        workers = [*self._workers.values(), *self._ending]
        for worker in workers:
            if kill or not worker.ready:
                worker.process.kill()
            elif worker.number is not None:
                worker.process.terminate()
            else:
                self._send(worker, {"do": "end"})
        deadline = time.monotonic() + END_LIMIT
        for worker in workers:
            if not kill:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(0.0, deadline - time.monotonic()))
            self._kill(worker)
            worker.process.wait()
            self._sweep(worker)
        self._workers.clear()
        self._ending.clear()
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            self._warden.wait()
            self._warden = None

    # ---- inside

    def _measure(self) -> None:
        """Kill the trials that hold more memory than they may."""
        limit = self.trial_memory
        if limit is None or time.monotonic() - self._measured < MEASURE:
            return
        for worker in self._workers.values():
            if worker.number is None or worker.why or worker.deaf:
                continue
            used = processes.resident(worker.process.pid)
            if worker.facts.get("gpus", 0) == 0 or not worker.facts.get("wanted_gpu"):
                worker.peak = max(worker.peak or 0.0, used)
            if used > limit:
                worker.why = f"it used {used:,.0f} MB of memory, the limit is {limit:,.0f} MB"
                self._kill(worker)
        self._measured = time.monotonic()

    def _send(self, worker: Worker, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            worker.pipe.send_bytes(encode(message))

    def _trial_log(self, worker: Worker) -> Path:
        logs = sorted(self.folder.glob(f"trial-{worker.number or 0:04}/attempt-*.log"))
        return logs[-1] if worker.number is not None and logs else worker.log
