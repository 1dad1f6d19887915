"""Brings what the search has into the forms and limits of MLflow: parameters, tags, metrics, dataset inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

# MLflow's limits, from mlflow.utils.validation of 3.17.
MAX_METRICS, MAX_PARAMS, MAX_TAGS, MAX_ENTITIES = 1000, 100, 100, 1000
MAX_PARAM, MAX_TAG, MAX_DIGEST = 6000, 8000, 36  # characters
MAX_REQUEST = 600_000  # bytes; MLflow refuses a batch of more than 1,000,000 as JSON, where letters may be escaped

CUT_TAG = "search.cut"
INFINITE_TAG = "search.metrics.infinite"


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    timestamp: int  # ms
    step: int


@dataclass(frozen=True)
class DatasetInfo:
    """What a run was trained on, without the data.

    `profile` says its size and shape, `schema` its columns or tensors (MLflow's JSON) where known, `source` where it
    came from in words or as an address.
    """

    name: str
    digest: str
    source: str
    profile: Mapping[str, Any]
    schema: Mapping[str, Any] | None = None
    context: str = "training"


def params_of(values: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters as text, and the tag that names those that had to be cut."""
    texts = {str(key): str(value) for key, value in values.items()}
    long = sorted(key for key, text in texts.items() if len(text) > MAX_PARAM)
    tags = {CUT_TAG: _cut(", ".join(long), MAX_TAG)} if long else {}
    return {key: _cut(text, MAX_PARAM) for key, text in texts.items()}, tags


def tags_of(values: Mapping[str, object]) -> dict[str, str]:
    """Tags as text, cut to MLflow's limit."""
    return {str(key): _cut(str(value), MAX_TAG) for key, value in values.items()}


def points_of(metrics: Mapping[str, float], step: int, timestamp_ms: int) -> tuple[list[Point], dict[str, str]]:
    """Metrics as points, NaN kept, and the tag that names the infinite ones, which are left out.

    MLflow's SQL stores keep an infinity as 1.8e308, which no chart survives.
    """
    values = {str(key): float(value) for key, value in metrics.items()}
    infinite = sorted(key for key, value in values.items() if math.isinf(value))
    tags = {INFINITE_TAG: _cut(f"{', '.join(infinite)} at step {step}", MAX_TAG)} if infinite else {}
    return [Point(key, value, timestamp_ms, step) for key, value in values.items() if not math.isinf(value)], tags


def dataset_input(info: DatasetInfo) -> DatasetInput:
    """`info` as MLflow's entity; a digest of more than 36 characters is cut, the whole one stays in a tag."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tags = [InputTag("mlflow.data.context", info.context)]
    if len(info.digest) > MAX_DIGEST:
        tags.append(InputTag("search.data.digest", info.digest[:500]))
    dataset = Dataset(
        name=info.name[:500],
        digest=info.digest[:MAX_DIGEST],
        source_type="local",
        source=json.dumps({"uri": info.source}),
        schema=json.dumps(info.schema) if info.schema is not None else None,
        profile=json.dumps(info.profile),
    )
    return DatasetInput(dataset, tags)


def chunks(pairs: Iterable[tuple[str, str]], size: int) -> list[dict[str, str]]:
    """`pairs` as dictionaries of at most `size`."""
    items = list(pairs)
    return [dict(items[i : i + size]) for i in range(0, len(items), size)]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
