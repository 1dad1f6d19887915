"""What says that memory did not suffice is told from what says something else."""

import numpy as np
import pytest

from search.executors import died
from search.executors.died import Died, kernel_kills, last_line
from search.trial.memory import Peak, is_out_of_memory


def raised(action):
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_numpys_own_error_is_a_lack_of_memory():
    assert is_out_of_memory(raised(lambda: np.ones(10**14)))


def test_tensorflows_own_error_is_a_lack_of_memory_and_a_full_disk_is_not():
    import tensorflow as tf

    assert is_out_of_memory(raised(lambda: tf.zeros([10**7, 10**7]) + 1.0))
    full = tf.errors.ResourceExhaustedError(None, None, "/data/x; No space left on device")
    assert not is_out_of_memory(full)
    assert not is_out_of_memory(raised(lambda: tf.zeros([2]) + tf.zeros([3])))


def test_an_error_because_of_a_lack_of_memory_is_one():
    def wrapped():
        try:
            np.ones(10**14)
        except MemoryError as error:
            raise ValueError("could not build") from error

    assert is_out_of_memory(raised(wrapped))
    assert is_out_of_memory(ExceptionGroup("several", [ValueError("x"), MemoryError()]))


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes.", True),
        ("Failed to allocate request for 2.00GiB (2147483648B) on device ordinal 0", True),
        ("CUDNN_STATUS_ALLOC_FAILED in external/xla", True),
        ("failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("CUDA_ERROR_OUT_OF_MEMORY: out of memory", True),
        ("std::bad_alloc", True),
        ("RESOURCE_EXHAUSTED: /tmp/x; No space left on device", False),
        ("RESOURCE_EXHAUSTED: /tmp/x; Too many open files", False),
        ("the room in the model is too small", False),
    ],
)
def test_the_texts_of_devices_are_known(text, means):
    assert is_out_of_memory(RuntimeError(text)) is means


def test_a_peak_is_that_since_it_was_begun():
    big = np.ones(40_000_000)
    held = Peak().megabytes
    del big
    low = Peak()
    assert low.megabytes < held
    before = low.megabytes
    big = np.ones(40_000_000)
    del big
    assert low.megabytes > before + 200
    assert low.facts()["memory_of"] == "cpu"


def test_the_kernels_count_is_read_from_the_narrowest_group(tmp_path, monkeypatch):
    assert kernel_kills() >= 0
    first, second = tmp_path / "memory.events", tmp_path / "vmstat"
    first.write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    second.write_text("oom_kill 9\n")
    monkeypatch.setattr(died, "_counters", lambda: [(tmp_path / "none", "oom_kill"), (first, "oom_kill")])
    assert kernel_kills() == 3
    monkeypatch.setattr(died, "_counters", lambda: [(second, "oom_kill")])
    assert kernel_kills() == 9


def test_a_death_is_one_line_for_people():
    assert str(Died(-9, "x = 1")) == "the worker died (signal SIGKILL): x = 1"
    assert str(Died(-9, oom=True)) == "the worker died (signal SIGKILL, the kernel ran out of memory)"
    assert str(Died(143, "noise", told=True)) == "the worker was ended (exit 143)"
    assert str(Died(-77)) == "the worker died (signal 77)"


def test_the_last_line_of_a_crash_in_c_is_what_and_where(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "hello\nFatal Python error: Segmentation fault\n\nThread 0x1 (most recent call first):\n"
        '  File "a.py", line 1 in wait\n\nCurrent thread 0x2 (most recent call first):\n'
        '  File "b.py", line 7 in build\n\nExtension modules: numpy (total: 1)\n'
    )
    assert last_line(log) == 'Fatal Python error: Segmentation fault, File "b.py", line 7 in build'
    assert last_line(tmp_path / "none") == ""
