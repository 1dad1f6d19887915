"""Studies and trials as MLflow runs: one parent run a study, one child run a trial, all sent off the training path."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import quiet
from tracking.artifacts import Artifacts
from tracking.batch import Batch
from tracking.client import Connection, or_none
from tracking.errors import TrackingError
from tracking.faults import told
from tracking.models import Removal, Upload
from tracking.outbox import Outbox
from tracking.values import DatasetInfo, Point, dataset_input, params_of, points_of, tags_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

__all__ = ["DatasetInfo", "Run", "Tracker"]

STATUSES = ("SCHEDULED", "RUNNING", "FINISHED", "KILLED", "FAILED")
STUDY, KIND, NUMBER, PARENT = "search.study.id", "search.kind", "search.trial.number", "mlflow.parentRunId"

Made = Callable[[str], None]


@dataclass(eq=False)
class Run:
    """One run of MLflow; `run_id` is empty until the store has found or made it.

    `resumed` says that it may hold metrics of an earlier process, which must not be doubled.
    """

    lane: str
    run_id: str = ""
    resumed: bool = False
    steps: dict[str, set[int]] = field(default_factory=dict)  # what MLflow has of a metric, asked once


class Tracker:
    """Everything the coordinator logs to one experiment of one tracking store.

    Nothing here waits for the store: calls go through `outbox` in the order of their run, the making of the run itself
    first. `artifact_root` is where a database store keeps its files; a server has its own place. Unless `offline`, the
    store must be there when the tracker is made: raises TrackingAway or TrackingError.
    """

    def __init__(self, uri: str, experiment: str, artifact_root: Path | None = None, *, offline: bool = False) -> None:
        self.uri = uri
        self.connection = Connection(uri, experiment, artifact_root)
        if offline:
            _load()
        else:
            self._open()
        self._artifacts = Artifacts(self.connection)
        self._runs: dict[str, Run] = {}
        self.outbox = Outbox(self._send)

    def _open(self) -> None:
        with told(self.uri):
            _ = self.connection.experiment_id

    @property
    def experiment_id(self) -> str:
        """The experiment's id, asked for at the store where it is not known yet."""
        return self.connection.experiment_id

    @property
    def _client(self) -> MlflowClient:
        return self.connection.client

    # ---- runs

    def start_study(
        self,
        name: str,
        *,
        identity: str,
        tags: Mapping[str, object],
        note: str,
        known: str = "",
        on_made: Made | None = None,
    ) -> Run:
        """A study's parent run: `known`, or the one tagged with `identity`, or a new one.

        `on_made(run_id)` is called from the outbox's thread where its id is not `known`.
        """
        mine = {**tags, "mlflow.note.content": note, STUDY: identity, KIND: "study"}
        query = f"tags.`{STUDY}` = '{identity}' and tags.`{KIND}` = 'study'"
        return self._start(Run(f"study {identity}", known), name, lambda: mine, query, True, on_made)

    def start_trial(
        self,
        study: Run,
        number: int,
        *,
        identity: str,
        name: str,
        tags: Mapping[str, object],
        known: str = "",
        fresh: bool = False,
        on_made: Made | None = None,
    ) -> Run:
        """The run of trial `number` under its study's: `known`, or the one with its tags, or a new one.

        `fresh` says that no process before can have made it, which saves looking.
        """

        def mine() -> dict[str, object]:
            return {**tags, STUDY: identity, KIND: "trial", NUMBER: number, PARENT: self.id_of(study)}

        query = f"tags.`{STUDY}` = '{identity}' and tags.`{KIND}` = 'trial' and tags.`{NUMBER}` = '{number}'"
        run = Run(f"study {identity} trial {number}", known, resumed=not fresh)
        return self._start(run, name, mine, query, not fresh, on_made)

    def id_of(self, run: Run) -> str:
        """The id MLflow gave a run. Raises TrackingError where the store refused to make it."""
        if not run.run_id:
            raise TrackingError(f"{run.lane} has no run: MLflow refused to make it")
        return run.run_id

    # ---- what a run says

    def set_params(self, run: Run, params: Mapping[str, object]) -> None:
        """Log parameters; MLflow takes each once. One longer than 6000 characters is cut, which a tag says."""
        texts, tags = params_of(params)
        self.outbox.put_batch(run.lane, params=texts, tags=tags)

    def set_tags(self, run: Run, tags: Mapping[str, object]) -> None:
        """Set tags; a later value replaces an earlier one."""
        self.outbox.put_batch(run.lane, tags=tags_of(tags))

    def log_dataset(self, run: Run, dataset: DatasetInfo) -> None:
        """Log what a run trains on; the same again changes nothing."""
        source = dataset_input(dataset)
        self._put(run, lambda run_id: self._client.log_inputs(run_id, [source]), f"dataset {dataset.name!r}")

    def log_epoch(self, run: Run, step: int, metrics: Mapping[str, float], timestamp_ms: int) -> None:
        """Log one epoch's metrics in one request; a step that a resumed run has already is left as it is.

        All metrics of a step are there or none, so the first one's history tells.
        """
        points, tags = points_of(metrics, step, timestamp_ms)
        if run.resumed and points:
            self._put(run, lambda run_id: self._log_missing(run, run_id, points, tags), f"metrics of step {step}")
        else:
            self.outbox.put_batch(run.lane, metrics=points, tags=tags)

    def log_bytes(self, run: Run, artifact_path: str, content: bytes) -> None:
        """Store `content` as an artifact of a run, replacing one of that path."""
        self._put(
            run,
            lambda run_id: self._artifacts.write(run_id, artifact_path, content),
            f"artifact {artifact_path}",
            len(content),
        )

    def log_made(self, run: Run, artifact_path: str, make: Callable[[], bytes]) -> None:
        """Like `log_bytes`, for content that takes a while to make: it is made in the outbox's thread."""
        self._put(run, lambda run_id: self._artifacts.write(run_id, artifact_path, make()), f"artifact {artifact_path}")

    def log_text(self, run: Run, artifact_path: str, text: str) -> None:
        """Store `text` as a UTF-8 artifact of a run."""
        self.log_bytes(run, artifact_path, text.encode("utf-8", "replace"))

    def log_file(self, run: Run, local: Path, artifact_dir: str | None = None) -> None:
        """Store a local file, as it is when its turn comes, in `artifact_dir` of a run's artifacts."""
        self._put(run, lambda run_id: self._artifacts.copy(run_id, local, artifact_dir), f"artifact {local.name}")

    def reopen(self, run: Run) -> None:
        """Say that a run goes on: RUNNING, without an end."""
        self._update(run, "RUNNING", 0)

    def finish(
        self, run: Run, status: str, tags: Mapping[str, object] | None = None, end_time_ms: int | None = None
    ) -> None:
        """Set a run's last tags, then its status and end (now, unless given; a SCHEDULED run has none).

        Raises ValueError for a status that MLflow does not have.
        """
        if status not in STATUSES:
            raise ValueError(f"unknown run status {status!r}; MLflow has {', '.join(STATUSES)}")
        if tags:
            self.set_tags(run, tags)
        if end_time_ms is None:
            end_time_ms = 0 if status in ("SCHEDULED", "RUNNING") else int(time.time() * 1000)
        self._update(run, status, end_time_ms)

    def upload_model(
        self,
        run: Run,
        folder: Path,
        *,
        name: str,
        step: int,
        metrics: Mapping[str, float],
        params: Mapping[str, object],
        on_done: Made | None = None,
    ) -> None:
        """Upload a folder of `packaging.save` as the run's logged model, with its metrics of epoch `step`.

        `on_done(model_id)` is called from the outbox's thread once `models:/<model_id>` can be loaded.
        """
        begun: list[Upload] = []

        def upload(run_id: str) -> None:
            if not begun:
                place = (self._client, self._artifacts, self.connection.experiment_id, run_id, folder)
                begun.append(Upload(*place, name=name, step=step, metrics=metrics, params=params, on_done=on_done))
            begun[0]()

        self._put(run, upload, f"model {name!r}")

    def delete_model(self, model_id: str, on_done: Callable[[], None] = lambda: None) -> None:
        """Remove a logged model, its files included; one that became a registered version stays.

        `on_done()` is called from the outbox's thread once it is gone, or found to be registered.
        """

        def remove() -> None:
            Removal(self._client, self._artifacts, model_id)()
            on_done()

        self.outbox.put(model_id, remove, what="its removal")

    def discard_models(self, run: Run) -> None:
        """Remove every logged model of a run, such as one whose upload was cut off; registered ones stay."""

        def remove(run_id: str) -> None:
            found = self._client.search_logged_models(
                [self.experiment_id], filter_string=f"source_run_id = '{run_id}'", max_results=50
            )
            for model in found:
                Removal(self._client, self._artifacts, model.model_id)()

        self._put(run, remove, "the removal of its models")

    def flush(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds until all is sent; False if something is left or was given up."""
        return self.outbox.flush(timeout)

    def settle(self, away: float, at_most: float) -> bool:
        """Like `flush(at_most)`, but waits no longer than `away` seconds for a store that does not answer."""
        return self.outbox.settle(away, at_most)

    def close(self, timeout: float | None = None) -> int:
        """Flush, then end the thread; returns how many entries MLflow never got."""
        return self.outbox.close(timeout)

    # ---- how

    def _put(self, run: Run, job: Callable[[str], Any], what: str, size: int = 0) -> None:
        self.outbox.put(run.lane, lambda: job(self.id_of(run)), what=what, size=size)

    def _start(
        self,
        run: Run,
        name: str,
        tags: Callable[[], Mapping[str, object]],
        query: str,
        look: bool,
        on_made: Made | None,
    ) -> Run:
        """Put the making of a run ahead of all that is sent to it; made again it changes nothing.

        A lane has one Run as long as this process lives: what waits in it must find the id that the first call brings.
        """
        told, tried = run.run_id, False
        mine = self._runs.setdefault(run.lane, run)
        mine.resumed, mine.run_id = mine.resumed or run.resumed, mine.run_id or run.run_id

        def ensure() -> None:
            nonlocal tried
            found = self._known(mine.run_id) if mine.run_id else None
            if found is None and (look or tried or mine.run_id):
                found = self._found(query)
            if found is None:
                tried = True  # the answer may get lost: then the next try looks for it
                found = self._client.create_run(
                    self.connection.experiment_id, run_name=name, tags=_defaults() | tags_of(tags())
                )
            mine.run_id = str(found.info.run_id)
            self._artifacts.learn(mine.run_id, found.info.artifact_uri)
            if on_made is not None and mine.run_id != told:
                on_made(mine.run_id)

        self.outbox.put(run.lane, ensure, what="the run itself")
        return mine

    def _known(self, run_id: str) -> MlflowRun | None:
        """The run of an id that was written down, brought back where somebody deleted it; None where it is gone."""
        found = or_none(lambda: self._client.get_run(run_id))
        if found is None:
            return None
        if found.info.lifecycle_stage == "deleted":
            self._client.restore_run(run_id)
        return found

    def _found(self, query: str) -> MlflowRun | None:
        found = self._client.search_runs(
            [self.connection.experiment_id], query, max_results=1, order_by=["attributes.start_time ASC"]
        )
        return found[0] if found else None

    def _log_missing(self, run: Run, run_id: str, points: list[Point], tags: Mapping[str, str]) -> None:
        key, step = points[0].key, points[0].step
        if key not in run.steps:
            run.steps[key] = {m.step for m in self._client.get_metric_history(run_id, key)}
        if step not in run.steps[key]:
            for part in Batch.of(points, {}, tags).within_limits():
                self._send(run.lane, part)
            run.steps[key].add(step)

    def _update(self, run: Run, status: str, end_time_ms: int) -> None:
        """Set status and end in one request; an end of 0 is how MLflow's API says none.

        MlflowClient's own calls need two or three, print addresses to the console, and cannot clear an end.
        """
        from mlflow.entities import RunStatus

        def update(run_id: str) -> None:
            store = self._client._tracking_client.store
            store.update_run_info(run_id, RunStatus.from_string(status), end_time_ms, None)

        self._put(run, update, f"status {status}")

    def _send(self, lane: str, batch: Batch) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            self.id_of(self._runs[lane]),
            metrics=[Metric(p.key, p.value, p.timestamp, p.step) for p in batch.metrics],
            params=[Param(key, text) for key, text in batch.params.items()],
            tags=[RunTag(key, text) for key, text in batch.tags.items()],
            synchronous=True,  # whatever MLFLOW_ENABLE_ASYNC_LOGGING says: only then does a failure come back to us
        )


def _load() -> None:
    """Import MLflow here and now: first in two threads at once, each would find the other's half of it."""
    quiet.prepare()
    import mlflow.entities  # noqa: F401


def _defaults() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": "LOCAL"}
