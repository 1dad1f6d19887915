"""Standard output and standard error that end no command: a reader that is gone or a narrow encoding is put up with."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from pathlib import Path
from typing import Any, TextIO

GONE = frozenset({errno.EPIPE, errno.EBADF, errno.ENXIO, errno.ECONNRESET, errno.ESHUTDOWN})
CLOSED_TERMINAL = errno.EIO  # of a file it is a broken disk, which must be told


def forgive() -> None:
    """From now on what this process prints is lost in silence where nobody is there to read it.

    Characters that the output's encoding lacks are written as escapes. What cannot be written to standard output
    because a disk is full still raises OSError; standard error only accompanies the work, and never raises.
    """
    if sys.stdout is None or sys.stdout is sys.__stdout__:  # else somebody took it over
        sys.stdout = _forgiving(sys.stdout, all_faults=False)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _forgiving(sys.stderr, all_faults=True)


class _Sink(io.FileIO):
    """A file descriptor that takes what nobody reads."""

    def __init__(self, descriptor: int, *, all_faults: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._all = all_faults
        is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)  # a closed terminal says that it is none
        self._forgiven = GONE | ({CLOSED_TERMINAL} if is_device else set())

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not self._all and error.errno not in self._forgiven:
                self._all = True  # told once; what is still buffered must not be told at the very end
                raise
            return memoryview(data).nbytes


def _forgiving(stream: TextIO | None, *, all_faults: bool) -> TextIO:
    if stream is None:  # closed before this process began
        return Path(os.devnull).open("w", encoding="utf-8")
    stream.flush()
    sink = _Sink(stream.fileno(), all_faults=all_faults)
    return io.TextIOWrapper(
        io.BufferedWriter(sink),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=all_faults or sink.isatty(),
    )
