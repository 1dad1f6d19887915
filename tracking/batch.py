"""One log_batch request in the making: metrics, parameters and tags of one run, merged within MLflow's limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tracking import values
from tracking.values import Point


@dataclass
class Batch:
    """What one request logs to one run."""

    metrics: list[Point] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    size: int = 0  # bytes, about

    @classmethod
    def of(cls, metrics: Iterable[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> Batch:
        """A batch that knows its size."""
        batch = cls(list(metrics), dict(params), dict(tags))
        batch.size = sum(len(p.key) + 100 for p in batch.metrics) + sum(
            len(k.encode()) + len(v.encode()) + 30 for d in (batch.params, batch.tags) for k, v in d.items()
        )
        return batch

    def __len__(self) -> int:
        return len(self.metrics) + len(self.params) + len(self.tags)

    def __str__(self) -> str:
        names = [*dict.fromkeys(p.key for p in self.metrics), *self.params, *self.tags]
        kind = "metric" if self.metrics else ("parameter" if self.params else "tag")
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{kind} {names[0]!r}{more}" if names else "an empty batch"

    def takes(self, other: Batch) -> bool:
        """Whether `other` can join this request. A parameter said twice cannot: MLflow must judge the second alone."""
        return (
            len(self.metrics) + len(other.metrics) <= values.MAX_METRICS
            and len(self.params) + len(other.params) <= values.MAX_PARAMS
            and len(self.tags.keys() | other.tags.keys()) <= values.MAX_TAGS
            and len(self) + len(other) <= values.MAX_ENTITIES
            and self.size + other.size <= values.MAX_REQUEST
            and not self.params.keys() & other.params.keys()
        )

    def add(self, other: Batch) -> None:
        """Join `other`; of a tag set twice, the later value stays."""
        self.metrics += other.metrics
        self.params |= other.params
        self.tags |= other.tags
        self.size += other.size

    def halves(self) -> list[Batch]:
        """Two batches with all of it, in order; only for a batch of more than one item."""
        items = self._items()
        middle = len(items) // 2
        return [_join(items[:middle]), _join(items[middle:])]

    def within_limits(self) -> list[Batch]:
        """This batch cut into as few as MLflow takes, in order; none if it is empty."""
        if len(self) and Batch().takes(self):
            return [self]
        found: list[Batch] = []
        for item in self._items():
            if not found or not found[-1].takes(item):
                found.append(Batch())
            found[-1].add(item)
        return found

    def _items(self) -> list[Batch]:
        return (
            [Batch.of([point], {}, {}) for point in self.metrics]
            + [Batch.of([], {key: text}, {}) for key, text in self.params.items()]
            + [Batch.of([], {}, {key: text}) for key, text in self.tags.items()]
        )


def _join(items: list[Batch]) -> Batch:
    joined = Batch()
    for item in items:
        joined.add(item)
    return joined
