"""The errors a person can meet, and the exit code of each.

    SearchError                 1   something failed
    ├── InputError              2   what was asked for cannot be done; lists every problem
    ├── StoreError              1   the study store cannot be used
    ├── EngineError             1   KerasTuner's oracle failed
    ├── ExecutorError           1   no worker can be started
    ├── JobError                1   a model cannot be loaded or measured
    └── StudyBusy               1   another process, here or elsewhere, owns the study

`spaces.errors.SpaceError` and `tracking.errors.TrackingError` are mapped by the command line to 2 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence

OK, FAILED, BAD_INPUT, REFUSED, HUNG_UP, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 129, 130, 143


class SearchError(Exception):
    """Raised when a command cannot go on; the message is one line for people."""

    exit_code = FAILED


class InputError(SearchError):
    """Raised when a request has problems; `problems` holds all of them, one line each."""

    exit_code = BAD_INPUT

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class StoreError(SearchError):
    """Raised when the study store cannot be opened or read."""


class EngineError(SearchError):
    """Raised when what proposes configurations fails."""


class ExecutorError(SearchError):
    """Raised when workers cannot be started or keep dying before they take a trial."""


class JobError(SearchError):
    """Raised when a process that loads or measures a model fails."""


class StudyBusy(SearchError):
    """Raised when another process runs the same study."""
