"""What can go wrong with spaces and datasets, as errors whose message is one line for people.

SpaceError
├── UnknownSpace
├── BrokenSpace
├── BuildFailed
└── DatasetError
    ├── UnknownDataset
    ├── DatasetUnavailable
    ├── DatasetCorrupt
    └── TestSplitSealed
"""

from __future__ import annotations


class SpaceError(Exception):
    """Base of all that a user of spaces or datasets can cause or meet; its message is one line for people."""


class UnknownSpace(SpaceError):
    """Raised when no space has the name, or no file the path, that was asked for."""


class BrokenSpace(SpaceError):
    """Raised when a space's file cannot be used; the message names the file and the line."""


class BuildFailed(SpaceError):
    """Raised when a space without formulas cannot build the network of a configuration.

    `function` is the one of its file that failed, `line` where; `fatal` says that it wants the search to end.
    """

    def __init__(self, words: str, line: int = 1, function: str = "build", *, fatal: bool = False) -> None:
        super().__init__(words)
        self.line, self.function, self.fatal = line, function, fatal


class DatasetError(SpaceError):
    """Raised when a dataset cannot be used as asked, as with a limit larger than the data."""


class UnknownDataset(DatasetError):
    """Raised when no dataset has the name that was asked for."""


class DatasetUnavailable(DatasetError):
    """Raised when no source gave the dataset; the message says what was tried and where to put the file."""


class DatasetCorrupt(DatasetError):
    """Raised when data is there but is not what it should be; the message names the file or the array."""


class TestSplitSealed(DatasetError):
    """Raised when something that belongs to a search asks for the test split."""

    __test__ = False  # pytest collects classes by the prefix Test
