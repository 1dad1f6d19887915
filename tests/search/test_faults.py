"""A fault of the machine, in whatever it comes wrapped, is told from a trial's own."""

import errno
import os

import pytest
from support import trial_spec

from search.trial.faults import of_machine
from spaces.errors import DatasetCorrupt, DatasetUnavailable, TestSplitSealed


def wrapped(error):
    """The error as a library hands it on."""
    try:
        try:
            raise error
        except BaseException as cause:
            raise RuntimeError("could not be saved") from cause
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_nothing_is_the_machines_fault(number):
    said = of_machine(wrapped(OSError(number, os.strerror(number), "/home/x")))
    assert said.startswith(f"{os.strerror(number)} at /home/x; ")
    assert "\n" not in said


def test_a_full_disk_that_tensorflow_meets_is_the_machines_fault():
    import tensorflow as tf

    assert "make room" in of_machine(tf.errors.ResourceExhaustedError(None, None, "/data/x; No space left on device"))


@pytest.mark.parametrize("kind", [DatasetUnavailable, DatasetCorrupt])
def test_data_that_is_gone_or_damaged_is_the_machines_fault(kind):
    assert of_machine(wrapped(kind("x.npy is missing"))).startswith("x.npy is missing; ")


@pytest.mark.parametrize(
    "error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "none", "/x"), OSError("x"), TestSplitSealed("sealed")]
)
def test_what_a_space_does_wrong_stays_its_trials_fault(error):
    assert of_machine(wrapped(error)) == ""


def test_a_trial_whose_data_is_gone_tells_of_it_as_the_machines_fault(tmp_path):
    from search.trial.control import Control
    from search.trial.meter import Meter
    from search.trial.run import run_trial

    spec = trial_spec(tmp_path, data_folder=str(tmp_path / "gone"))
    told = []
    assert not run_trial(Control(spec, told.append), Meter(None))
    assert (told[-1]["event"], told[-1]["reason"]) == ("failed", "machine")
