"""The process that owns a slot: `python -m search.trial.worker FD CORES GPU`, started by an executor."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from search.trial.line import Line


def main(argv: list[str]) -> None:
    """Take trials from the pipe at file descriptor FD until told to end or until the coordinator is gone."""
    line, cores = Line(Connection(int(argv[1]))), [int(core) for core in argv[2].split(",")]
    gpu = None if argv[3] == "none" else int(argv[3])
    faulthandler.enable()  # a crash in C then says where
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)

    from search.trial.memory import resident_megabytes
    from search.trial.meter import Meter
    from search.trial.run import run_trial

    devices = _prepare_backend(gpu)
    meter = Meter(gpu)
    line.tell({"event": "ready", "memory": resident_megabytes(), **devices})
    while (control := line.trials.get()) is not None:
        with contextlib.suppress(OSError):  # a full disk is told of by the trial, where it matters
            _write_output_to(control.spec.path / f"attempt-{control.spec.attempt}.log")
        fit = run_trial(control, meter, gpu=gpu is not None)
        line.tell({"event": "idle", "memory": resident_megabytes(), "fit": fit})


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


if __name__ == "__main__":
    main(sys.argv)
