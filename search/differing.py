"""What differs between configurations, and how values of one row are written so that they do not look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spaces._hp import show


class _Absent:
    """The value of a hyperparameter that a configuration does not have."""

    def __repr__(self) -> str:
        return "-"


ABSENT = _Absent()


def differing(configs: Sequence[Mapping[str, Any]], everything: bool = False) -> dict[str, list[Any]]:
    """The values of each name that is not the same in all (with `everything` of every name), ABSENT where one has none.

    Names stand in the order of the configurations, one that only a later one has after its neighbour there.
    """
    order: list[str] = []
    for config in configs:
        at = 0
        for name in config:
            if name not in order:
                order.insert(at, name)
            at = order.index(name) + 1
    rows = {name: [config.get(name, ABSENT) for config in configs] for name in order}
    return {name: row for name, row in rows.items() if everything or any(not same(row[0], v) for v in row[1:])}


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same to a person: 1 and 1.0 are, 1 and true are not."""
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def words(values: Sequence[Any]) -> list[str]:
    """How the values of a row are written: briefly, unless different ones would look alike."""
    brief = [_brief(value) for value in values]
    alike = any(a == b and not same(v, w) for a, v in zip(brief, values, strict=True)
                for b, w in zip(brief, values, strict=True))  # fmt: skip
    return [_exact(value) for value in values] if alike else brief


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(ABSENT) if value is ABSENT or value is None else show(value)


def _exact(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return repr(int(value))
    return repr(value)
