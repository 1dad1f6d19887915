"""What names a HyperModel: `module:Name`, or `file.py:Name`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_FORM = re.compile(rf"(?P<place>.+\.py|{_DOTTED}):(?P<name>{_DOTTED})")


@dataclass(frozen=True)
class Reference:
    """An object `name` in a module (`place` is its dotted name) or in a file (`place` is its whole path)."""

    place: str
    name: str

    @property
    def file(self) -> Path | None:
        """The file that was named; None for a module."""
        return Path(self.place) if self.place.endswith(".py") else None

    @property
    def title(self) -> str:
        """What its space is called: the name of a class; before that of a function stands that of its module."""
        last = self.name.rpartition(".")[2]
        module = self.file.stem if self.file else self.place.rpartition(".")[2]
        return re.sub(r"[^A-Za-z0-9_.-]", "_", last if last[0].isupper() else f"{module}.{last}")

    def __str__(self) -> str:
        return f"{self.place}:{self.name}"


def parse(text: str) -> Reference | None:
    """The reference that `text` is; None where it is none. The path of a file becomes a whole one."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    place = found["place"]
    return Reference(str(Path(place).expanduser().resolve()) if place.endswith(".py") else place, found["name"])
