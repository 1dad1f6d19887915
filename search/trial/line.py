"""The worker's end of the pipe: one thread hears orders, answers and SIGTERM at any time; any thread may speak."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, NoReturn

import psutil

from search.trial.control import BREAK_OFF, Control
from search.trial.spec import TrialSpec, decode, encode

TERMINATED = 128 + signal.SIGTERM  # exit codes of a worker
ORPHANED = 1
BROKEN = 70
LOOK = 1.0  # seconds between two looks at whether the coordinator is there


class Line:
    """Owns `pipe`. Make it in the main thread, which then takes trials from `trials`.

    Whatever the main thread does, the reading thread writes the newest copy of the state when it is told to, on
    SIGTERM, and when the coordinator is gone.
    """

    def __init__(self, pipe: Connection) -> None:
        self.trials: SimpleQueue[Control | None] = SimpleQueue()  # None: end
        self._pipe = pipe
        self._parent = os.getppid()
        self._sending = threading.Lock()
        self._control: Control | None = None
        os.set_inheritable(pipe.fileno(), False)  # or a process left behind would hold the pipe open
        # The C handler writes a byte whatever Python does, so that a main thread inside TensorFlow is no hindrance.
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
        signal.signal(BREAK_OFF, self._interrupted)
        self._reader = threading.Thread(target=self._listen, name="line", daemon=True)
        self._reader.start()

    def tell(self, message: dict[str, Any]) -> None:
        """Send one message; from any thread. Does not return where the coordinator is gone."""
        data = encode(message)
        try:
            with self._sending:
                self._pipe.send_bytes(data)
        except OSError:
            if threading.current_thread() is not self._reader:
                time.sleep(60)  # the reading thread notices as well, writes what there is and ends the process
            self._leave(ORPHANED)

    def _interrupted(self, number: int, frame: Any) -> None:
        if self._control is not None:
            self._control.interrupt(number, frame)

    # ---- the reading thread

    def _listen(self) -> None:
        try:
            while True:
                control = self._control
                ready = wait([self._pipe, self._woken], LOOK if control is None else control.wait)
                if self._woken in ready and signal.SIGTERM in os.read(self._woken, 512):
                    self._leave(TERMINATED)
                if self._pipe in ready:
                    try:
                        message = decode(self._pipe.recv_bytes())
                    except (EOFError, OSError):
                        self._leave(ORPHANED)
                    self._take(message)
                elif os.getppid() != self._parent:
                    self._leave(ORPHANED)
                if self._control is not None:
                    self._control.press()
        except BaseException:
            traceback.print_exc()
            self._leave(BROKEN)

    def _take(self, message: dict[str, Any]) -> None:
        control, order = self._control, message.get("do")
        if order == "run":
            self._control = Control(TrialSpec.from_json(message["spec"]), self.tell)
            self.trials.put(self._control)
        elif order == "end":
            self.trials.put(None)
        elif control is None:
            return
        elif order == "checkpoint":
            epochs = control.keeper.write()
            self.tell({"event": "saved", "epoch": epochs, "trouble": control.keeper.trouble})
        elif order == "stop" and "grace" in message:
            control.stop(message["grace"])
        else:
            control.answers.put(message)

    def _leave(self, code: int) -> NoReturn:
        """Keep what there is and end this process with all it started."""
        try:
            if self._control is not None:
                self._control.keeper.write()
            for child in psutil.Process().children(recursive=True):
                _kill(child)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.kill()
