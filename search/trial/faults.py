"""Tells a fault of the machine, which is no trial's own: a disk that is full or fails, data that is gone."""

from __future__ import annotations

import errno
import os

from search.trial.memory import chain
from spaces.errors import DatasetError, TestSplitSealed

MACHINE = "machine"  # the reason of a trial that met one: it is paused, not failed
MEND = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "make it writable",
    errno.EIO: "see to the disk",
}
FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


def of_machine(error: BaseException) -> str:
    """What is wrong with the machine or its data and what to do, in one line; empty where the fault is the trial's.

    Looks at `error` and at all that led to it.
    """
    for each in chain(error):
        if isinstance(each, OSError) and each.errno in MEND:
            where = f" at {each.filename}" if each.filename else ""
            return f"{os.strerror(each.errno or 0)}{where}; {MEND[each.errno]}"
        # A space that asks for the test split is wrong wherever it runs.
        if isinstance(each, DatasetError) and not isinstance(each, TestSplitSealed):
            return f"{' '.join(str(each).split())}; put the data back, or let it be prepared again"
        for words in FULL:  # TensorFlow's own errors carry no number
            if words in str(each):
                return f"{words}; make room"
    return ""
