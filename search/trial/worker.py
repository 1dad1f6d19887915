"""The process that owns a slot: `python -m search.trial.worker FD CORES GPU`, started by an executor."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from search.trial.spec import TrialSpec, decode, encode


def main(argv: list[str]) -> None:
    """Take trials from the pipe at file descriptor FD until told to end or until the coordinator is gone."""
    pipe, cores = Connection(int(argv[1])), [int(core) for core in argv[2].split(",")]
    gpu = None if argv[3] == "none" else int(argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()

    from search.trial.meter import Meter, resident_megabytes
    from search.trial.run import run_trial

    devices = _prepare_backend(gpu)
    meter = Meter(gpu)

    def tell(message: dict[str, Any]) -> None:
        pipe.send_bytes(encode(message))

    def ask(message: dict[str, Any]) -> dict[str, Any]:
        tell(message)
        return decode(pipe.recv_bytes())

    tell({"event": "ready", "memory": resident_megabytes(), **devices})
    try:
        while True:
            order = decode(pipe.recv_bytes())
            if order["do"] != "run":
                return
            spec = TrialSpec.from_json(order["spec"])
            _write_output_to(spec.path / f"attempt-{spec.attempt}.log")
            run_trial(spec, tell, ask, meter)
            tell({"event": "idle", "memory": resident_megabytes()})
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _prepare_backend(gpu: int | None) -> dict[str, Any]:
    """Import Keras and say what it runs on."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        for device in found:
            tf.config.experimental.set_memory_growth(device, True)
    elif backend == "jax":
        import jax

        found = [device for device in jax.devices() if device.platform == "gpu"]
    else:
        raise SystemExit(f"KERAS_BACKEND={backend}: only tensorflow and jax are supported")
    return {"backend": backend, "keras": keras.__version__, "gpus": len(found), "wanted_gpu": gpu is not None}


def _write_output_to(path: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _die_with(parent: int) -> None:
    """Ends this process once the coordinator is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv)
