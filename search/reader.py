"""Reads the texts of a request, noting every problem instead of stopping at the first."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from search.budget import read_time
from spaces.errors import SpaceError

T = TypeVar("T")


@dataclass
class Reader:
    """Reads the texts of a request, collecting problems instead of stopping at the first."""

    problems: list[str] = field(default_factory=list)

    def whole(self, flag: str, text: str | None, default: int, least: int = 1, most: int | None = None) -> int:
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            self.problems.append(f"{flag} {text}: give a whole number, {least} or more")
            return default
        if most is not None and value > most:
            self.problems.append(f"{flag} {text}: give {most:,} or less")
            return default
        return value

    def one_of(self, flag: str, text: str | None, names: Sequence[str], default: str) -> str:
        if text is None:
            return default
        if text not in names:
            near = difflib.get_close_matches(text, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            self.problems.append(f"{flag} {text}: unknown; choose one of {', '.join(names)}.{hint}")
            return default
        return text

    def seconds(self, flag: str, text: str | None, default: float | None = None) -> float | None:
        """`none` turns a limit off."""
        if text is None or text == "none":
            return default if text is None else None
        return self.parsed(flag, text, read_time, "give seconds, or a time like 90s, 30m, 8h")

    def parsed(self, flag: str, text: str | None, read: Callable[[str], T | None], hint: str) -> T | None:
        """None where nothing was said, and for `none`, which turns a limit off."""
        if text == "none":
            return None
        value = None if text is None else read(text)
        if text is not None and value is None:
            self.problems.append(f"{flag} {text}: {hint}")
        return value

    def attempt(self, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except SpaceError as error:
            self.problems.append(str(error))
            return None
