"""One study under fire: starts its coordinator, kills at each aim, resumes, until the study has ended by itself."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient

from bench import audit, processes
from bench.audit import Harm
from bench.instants import LOST, Aim, Deck, Watch, behind, wait_for
from bench.places import ROOT, Server, environment
from bench.proxy import Trap
from search import store

START_LIMIT = 60.0  # seconds from the start of a coordinator to that of its first attempt
AIM_LIMIT = 10.0  # seconds after it to wait for an instant; then the kill falls wherever it may
END_LIMIT = 60.0  # the same for the end of the last trial
SILENCE = 150.0  # seconds without anything written, after which a coordinator hangs
STOP_LIMIT = 90.0  # seconds that a coordinator may take to stop after Ctrl-C
RESUMED_WHEN_DONE = 2  # how often a study all of whose trials are done is killed again
ORPHAN_LIMIT = 5.0  # seconds that a worker may outlive its coordinator
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
UNTOLD = "MLflow did not take everything"  # what a coordinator says of a server that stayed away
GRACE = ("Ctrl-C", "Ctrl-C twice", "Ctrl-C, then worker", "SIGTERM")


@dataclass(frozen=True)
class Kill:
    """What was killed, where it fell, and how many recorded epochs have to run again for it."""

    study: str
    victim: str
    instant: str
    where: str
    again: int

    def __str__(self) -> str:
        again = f"; {self.again} epoch{'s' if self.again > 1 else ''} to run again" if self.again else ""
        return f"{self.study}: {self.victim}, at {self.instant}: {self.where}{again}"


@dataclass
class Snare:
    """Holds the trap that the proxy springs at present, if any."""

    trap: Trap | None = None

    def loses(self, kind: str, accepted: bool) -> bool:
        """What the proxy asks of each request."""
        trap = self.trap
        if trap is None or trap.accepted != accepted or not trap.matches(kind):
            return False
        self.trap = None
        trap.spring(kind)
        return True


@dataclass
class Siege:
    """A study in a home of its own; `flags` are those of its first command, `said` hears a line a kill."""

    name: str
    home: Path
    flags: Sequence[str]
    tracking_uri: str
    server: Server
    snare: Snare
    rng: random.Random
    trials: int
    said: Callable[[str], None] = print
    kills: list[Kill] = field(default_factory=list)
    harms: list[Harm] = field(default_factory=list)
    starts: int = 0

    def __post_init__(self) -> None:
        self.folder = self.home / "studies" / self.name
        self.watch = Watch(self.folder, self.home / "study.db")
        self._suspects: list[tuple[float, list[processes.Process]]] = []
        self._owed: set[object] = set()
        self._restarting: threading.Thread | None = None
        self._epochs_at_worker_kill = -1
        self._resumed_when_done = 0
        self._late = False  # the instant aimed at did not come

    # ---- the story

    def run(self, deck: Deck, kills: int) -> bool:
        """Kill at most `kills` times; whether the study came to its end. However it goes, nothing of it lives on."""
        self.launch()
        try:
            return self._story(deck, kills)
        finally:
            self._end()

    def _story(self, deck: Deck, kills: int) -> bool:
        failures = 0
        while failures < 3:
            aim = self._drawn(deck) if len(self.kills) < kills else None
            if self._wait(aim):
                assert aim is not None
                self._strike(aim)
                failures = 0
                continue
            code = self._ended()
            if code == 0:
                self._join()
                self._do_as_told()
                self._look_for_orphans(last=True)
                return True
            if code in (1, 2) and "does not answer" in self._last_words():
                self.said(f"{self.name}: refused while the server was away, as promised")
            else:
                self._harm(audit.COMMANDS, f"{self._command} ended with {code}: {self._last_words()}")
            failures += 1
            self._relaunch()
        self._harm(audit.STUCK, "three commands in a row failed; the study was given up")
        return False

    def _do_as_told(self) -> None:
        """A server that was away at the end: the command named for it is typed, and again, when it finds nothing."""
        if UNTOLD not in self.log.read_text(errors="replace"):
            return
        mended, again = self._reconciled(), self._reconciled()
        self.said(f"{self.name}: the server was away at its end, so reconcile, which mended: {'; '.join(mended)}")
        if again:
            self._harm(audit.MISSING, f"a second reconcile found more to mend: {again}")

    def _reconciled(self) -> list[str]:
        """What `reconcile` mended, and what it calls lost."""
        command = [sys.executable, "-m", "search", "reconcile", self.name, "--json"]
        done = subprocess.run(
            command,
            cwd=self.home,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=SILENCE,
            check=False,
        )
        if done.returncode:
            self._harm(audit.COMMANDS, f"reconcile ended with {done.returncode}: {done.stderr.strip()[-300:]}")
            return []
        return [line for study in json.loads(done.stdout) for line in (*study["mended"], *study["lost"])]

    def _environment(self) -> dict[str, str]:
        path = os.environ.get("PYTHONPATH", str(ROOT))
        return environment(self.home, MLFLOW_TRACKING_URI=self.tracking_uri, PYTHONPATH=path)

    def _drawn(self, deck: Deck) -> Aim | None:
        begins = time.monotonic() - self.launched < 1.0
        if begins and self._left() <= 0:
            self._resumed_when_done += 1
            if self._resumed_when_done > RESUMED_WHEN_DONE:
                return None
        return deck.draw(fresh=not self._known(), begins=begins, left=self._left())

    def _ended(self) -> int:
        """The exit code of a coordinator that ended by itself, or is ended here because it hangs."""
        if self.process.poll() is None:
            self._harm(audit.STUCK, f"{self._command} wrote nothing for {SILENCE:.0f} s: {self._last_words()}")
            self._end()
        return self.process.wait()

    # ---- starting

    def launch(self) -> None:
        """`run` where the study is not in its store yet, else `resume`; of either the same flags."""
        known = self._known()
        words = ["resume", self.name] if known else ["run", "cnn_digits", *self.flags, "--study", self.name]
        self._command = " ".join(words)
        self.starts += 1
        self.home.mkdir(parents=True, exist_ok=True)
        self.log = self.home / f"coordinator-{self.starts:03}.log"
        self._at_launch = dict(self.watch.look())
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "search", *words],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.launched = time.monotonic()

    def _known(self) -> bool:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.home / 'study.db'}?mode=rw", uri=True)) as opened:
                found = opened.execute("select 1 from studies where study_name = ?", (self.name,)).fetchone()
        except sqlite3.Error:
            return False
        return found is not None and (self.folder / "study.json").is_file()

    def _relaunch(self) -> None:
        self._join()
        if self.rng.random() < 0.5:  # the others are resumed while the worker of before still lives
            wait_for(lambda: not processes.orphans(self.home, None), lambda: False, ORPHAN_LIMIT)
        self.launch()

    def _join(self) -> None:
        if self._restarting is not None:
            self._restarting.join()
            self._restarting = None

    def _end(self) -> None:
        """End the coordinator and all of its workers."""
        for process in processes.of_home(self.home):
            processes.send(process.pid, signal.SIGKILL)
        self.process.wait()

    # ---- waiting

    def _wait(self, aim: Aim | None) -> bool:
        """Until the aim's instant; False where the coordinator ended by itself before it, or hangs."""
        if aim is None:
            self._until(lambda: False, 3600)
            return False
        if aim.instant in LOST:
            return self._wait_for_request(aim)
        base, came = dict(self.watch.look()), True
        if aim.instant == "shut-down":
            came = self._until(lambda: self.watch.look()["trial told"] >= self.trials, END_LIMIT)
        elif aim.instant not in ("any time", "start-up", "resumed when done"):
            came = self._until_late(lambda: self.watch.look()[aim.instant] >= base[aim.instant] + aim.nth)
        if aim.delay:
            self._until(lambda: False, aim.delay)
        self._late = not came
        return self.process.poll() is None and not self._hangs()

    def _wait_for_request(self, aim: Aim) -> bool:
        what, _, request = aim.instant.partition(" lost: ")
        trap = Trap(request, aim.nth, what == "answer", lambda: self._kill_now(aim.victim))
        self.snare.trap = trap
        self._until_late(trap.sprung.is_set)
        self.snare.trap = None
        self._late = not trap.sprung.is_set()
        if trap.sprung.is_set():
            return True
        return self.process.poll() is None and not self._hangs()

    def _until_late(self, came: Callable[[], bool]) -> bool:
        """Wait as long as it makes sense to; the machine may be slow to start a coordinator and its worker."""
        began = self._at_launch["attempt file"]
        if not self._until(lambda: came() or self.watch.look()["attempt file"] > began, START_LIMIT):
            return False
        return came() or self._until(came, AIM_LIMIT)

    def _until(self, came: Callable[[], bool], limit: float) -> bool:
        """Wait until `came`, looking for orphans meanwhile; False where the coordinator ended, hangs, or it is late."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and self.process.poll() is None and not self._hangs():
            if wait_for(came, lambda: self.process.poll() is not None, min(1.0, deadline - time.monotonic())):
                return True
            self._look_for_orphans()
        return False

    def _hangs(self) -> bool:
        newest = max(
            (path.stat().st_mtime for path in (self.log, *self.folder.glob("trial-*/*")) if path.exists()), default=0.0
        )
        quiet = time.time() - newest
        return quiet > SILENCE and time.monotonic() - self.launched > SILENCE

    # ---- killing

    def _kill_now(self, victim: str) -> None:
        if victim == "server":
            self.server.kill()
            return
        workers = processes.workers(self.process.pid) if victim == "both" else []
        processes.send(self.process.pid, signal.SIGKILL)
        for pid in workers:
            processes.send(pid, signal.SIGKILL)

    def _strike(self, aim: Aim) -> None:
        aim = self._allowed(aim)
        where = self._where()
        match aim.victim:
            case "coordinator" | "both":
                self._kill_now(aim.victim)
            case "worker":
                self._at_launch = dict(self.watch.look())  # the next worker has to start first
                self._epochs_at_worker_kill = self._at_launch["epoch line"]
                for pid in processes.workers(self.process.pid)[:1]:
                    processes.send(pid, signal.SIGKILL)
            case "server":
                self._kill_now("server")
                self._restart_server(self.rng.uniform(0, 5))
            case "server, then coordinator":
                self._kill_now("server")
                self._until(lambda: False, self.rng.uniform(0, 1.5))
                processes.send(self.process.pid, signal.SIGKILL)
                self._restart_server(0)
            case _:
                self._stop(aim.victim)
        dead = aim.victim not in ("worker", "server")
        if dead:
            self.process.wait()
            self._suspects.append((time.monotonic() + ORPHAN_LIMIT, processes.orphans(self.home, None)))
        instant = f"any time (waited for {aim.instant})" if self._late else str(aim).partition(" at ")[2]
        self.kills.append(Kill(self.name, aim.victim, instant, where, self._again()))
        self.said(str(self.kills[-1]))
        if dead:
            self._relaunch()

    def _allowed(self, aim: Aim) -> Aim:
        """A trial fails after three crashes and a study after two workers that never came up: no promise is broken."""
        if "worker" not in aim.victim:
            return aim
        crashes = [
            sum(event["event"] == "crashed" for event in store.events(trial)) for trial in self.folder.glob("trial-*")
        ]
        fresh = self.watch.look()["epoch line"] > self._epochs_at_worker_kill
        if fresh and max(crashes, default=0) < 2 and processes.workers(self.process.pid):
            return aim
        return Aim("coordinator" if aim.victim == "worker" else "Ctrl-C", aim.instant, aim.nth, aim.delay)

    def _stop(self, victim: str) -> None:
        """A signal that asks it to stop, and what follows; looks whether it stopped as it should."""
        processes.send(self.process.pid, signal.SIGTERM if victim == "SIGTERM" else signal.SIGINT)
        if victim == "Ctrl-C twice":
            self._until(lambda: False, self.rng.uniform(0, 1.0))
            if self.process.poll() is None:
                processes.send(self.process.pid, signal.SIGINT)
        elif victim == "Ctrl-C, then worker":
            self._until(lambda: False, self.rng.uniform(0, 0.4))
            for pid in processes.workers(self.process.pid)[:1]:
                processes.send(pid, signal.SIGKILL)
        try:
            code = self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._harm(audit.STUCK, f"after {victim} it did not end within {STOP_LIMIT:.0f} s: {self._last_words()}")
            return self._end()
        if code not in (0, *STOPPED):
            self._harm(audit.COMMANDS, f"after {victim} it ended with {code}: {self._last_words()}")
        # It ended in good order, so nothing may be RUNNING until it is resumed. Twice is a kill; what is stopped before
        # it has taken the study up leaves it as it was; and where the server is down it must have said what is left.
        log = self.log.read_text(errors="replace")
        begun = any(word in log for word in (" goes on: ", " starts: "))
        excused = self._restarting is not None and UNTOLD in log
        if code in (0, 130, 143) and victim != "Ctrl-C twice" and begun and not excused:
            for run in audit.running(MlflowClient(self.server.uri), self.name):
                self._harm(audit.STUCK, f"{run} is RUNNING after {victim} and exit {code}")

    def _restart_server(self, pause: float) -> None:
        self._join()

        def start() -> None:
            time.sleep(pause)
            self.server.start()

        self._restarting = threading.Thread(target=start)
        self._restarting.start()

    # ---- looking

    def _left(self) -> int:
        return self.trials - self.watch.look()["trial told"]

    def _where(self) -> str:
        counts = self.watch.look()
        return (
            f"{time.monotonic() - self.launched:.1f} s into start {self.starts}, "
            f"{counts['trial told']} of {self.trials} trials told, {counts['epoch line']} epochs recorded"
        )

    def _again(self) -> int:
        """Recorded epochs that lie behind the last checkpoint, each counted at one kill."""
        new = [debt for debt in behind(self.folder) if debt not in self._owed]
        self._owed |= set(new)
        return sum(debt.recorded - debt.holds for debt in new)

    def _look_for_orphans(self, *, last: bool = False) -> None:
        for deadline, seen in list(self._suspects):
            if last:
                wait_for(
                    lambda seen=seen: not any(map(processes.alive, seen)),  # type: ignore[misc]
                    lambda d=deadline: time.monotonic() > d,  # type: ignore[misc]
                    ORPHAN_LIMIT,
                )
            elif time.monotonic() < deadline:
                continue
            self._suspects.remove((deadline, seen))
            for process in filter(processes.alive, seen):
                how = f"{processes.state(process)}, load {os.getloadavg()[0]:.1f}"
                self._harm(audit.ORPHANS, f"{process} lives {ORPHAN_LIMIT:.0f} s after its coordinator's end ({how})")
        if last:
            for process in processes.orphans(self.home, None):
                self._harm(audit.ORPHANS, f"{process} lives after the study's end")

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(line.strip() for line in lines[-3:])[:600] or "nothing was said"

    def _harm(self, kind: str, text: str) -> None:
        after = f" (after kill {len(self.kills)}: {self.kills[-1]})" if self.kills else ""
        self.harms.append(Harm(kind, text + after))
        self.said(f"HARM {self.harms[-1]}")
