"""Studies and trials as MLflow runs: one parent run a study, one child run a trial, logged off the training path."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracking.artifacts import Artifacts
from tracking.batch import Batch
from tracking.client import connect, experiment_id
from tracking.errors import TrackingAway, TrackingError
from tracking.faults import Fault, fault_of, one_line
from tracking.models import Removal, Upload
from tracking.outbox import Outbox
from tracking.probe import masked
from tracking.values import DatasetInfo, dataset_input, params_of, points_of, tags_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Tracker", "DatasetInfo"]

PATIENCE = 60.0  # seconds that a call which needs an answer waits for a store that is away
STATUSES = ("SCHEDULED", "RUNNING", "FINISHED", "KILLED", "FAILED")

T = TypeVar("T")


class Tracker:
    """Everything the coordinator logs to one experiment of one tracking store.

    Calls that need an answer are synchronous and raise TrackingError; all others go through `outbox`, which never
    blocks on the network. `artifact_root` is where a database store keeps its files; a server has its own place.
    """

    def __init__(self, uri: str, experiment: str, artifact_root: Path | None = None) -> None:
        self.uri = uri
        self._client: MlflowClient = self._ask(lambda: connect(uri), patience=0.0)
        self.experiment_id: str = self._ask(
            lambda: experiment_id(self._client, uri, experiment, artifact_root), patience=0.0
        )
        self._artifacts = Artifacts(self._client, uri)
        self.outbox = Outbox(self._send)

    # ---- synchronous: their answer is needed

    def start_study(self, name: str, *, params: Mapping[str, object], tags: Mapping[str, object], note: str) -> str:
        """Make a study's parent run and return its id."""
        since = int(time.time() * 1000)
        return self._start(
            name, params, {**tags, "mlflow.note.content": note}, known=lambda: self._made_since(name, since)
        )

    def start_trial(
        self,
        study_run_id: str,
        *,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, object],
        dataset: DatasetInfo | None,
    ) -> str:
        """Make a trial's run under its study's and return its id; parameters and dataset follow through the outbox."""
        number = tags.get("search.trial.number")
        run_id = self._start(
            name,
            params,
            {**tags, "mlflow.parentRunId": study_run_id},
            known=lambda: None if number is None else self._child(study_run_id, str(number)),
        )
        if dataset is not None:
            self.log_dataset(run_id, dataset)
        return run_id

    def find_trial(self, study_run_id: str, number: int) -> str | None:
        """The run of trial `number` of a study, where an earlier process made one."""
        found = self._ask(lambda: self._child(study_run_id, str(number)))
        return found.info.run_id if found else None

    def logged_steps(self, run_id: str, metric: str) -> set[int]:
        """The steps at which a metric was logged; what waits in the outbox does not count."""
        return {m.step for m in self._ask(lambda: self._client.get_metric_history(run_id, metric))}

    def status(self, run_id: str) -> str:
        """A run's status as the store has it."""
        return str(self._ask(lambda: self._client.get_run(run_id)).info.status)

    # ---- asynchronous

    def set_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Log parameters; MLflow takes each once. One longer than 6000 characters is cut, which a tag says."""
        texts, tags = params_of(params)
        self.outbox.put_batch(run_id, params=texts, tags=tags)

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Set tags; a later value replaces an earlier one."""
        self.outbox.put_batch(run_id, tags=tags_of(tags))

    def log_dataset(self, run_id: str, dataset: DatasetInfo) -> None:
        """Log what a run trains on; the same again changes nothing."""
        source = dataset_input(dataset)
        self.outbox.put(run_id, lambda: self._client.log_inputs(run_id, [source]), what=f"dataset {dataset.name!r}")

    def log_epoch(self, run_id: str, step: int, metrics: Mapping[str, float], timestamp_ms: int) -> None:
        """Log one epoch's metrics in one request. The same again (also its time) changes nothing."""
        points, tags = points_of(metrics, step, timestamp_ms)
        self.outbox.put_batch(run_id, metrics=points, tags=tags)

    def log_bytes(self, run_id: str, artifact_path: str, content: bytes) -> None:
        """Store `content` as an artifact of a run, replacing one of that path."""
        self.outbox.put(
            run_id,
            lambda: self._artifacts.write(run_id, artifact_path, content),
            what=f"artifact {artifact_path}",
            size=len(content),
        )

    def log_text(self, run_id: str, artifact_path: str, text: str) -> None:
        """Store `text` as a UTF-8 artifact of a run."""
        self.log_bytes(run_id, artifact_path, text.encode("utf-8", "replace"))

    def log_file(self, run_id: str, local: Path, artifact_dir: str | None = None) -> None:
        """Store a local file, as it is when its turn comes, in `artifact_dir` of a run's artifacts."""
        self.outbox.put(
            run_id, lambda: self._artifacts.copy(run_id, local, artifact_dir), what=f"artifact {local.name}"
        )

    def reopen(self, run_id: str) -> None:
        """Say that a run goes on: RUNNING, without an end."""
        self._update(run_id, "RUNNING", 0)

    def finish(
        self, run_id: str, status: str, tags: Mapping[str, object] | None = None, end_time_ms: int | None = None
    ) -> None:
        """Set a run's last tags, then its status and end (now, unless given; a SCHEDULED run has none).

        Raises ValueError for a status that MLflow does not have.
        """
        if status not in STATUSES:
            raise ValueError(f"unknown run status {status!r}; MLflow has {', '.join(STATUSES)}")
        if tags:
            self.set_tags(run_id, tags)
        if end_time_ms is None:
            end_time_ms = 0 if status in ("SCHEDULED", "RUNNING") else int(time.time() * 1000)
        self._update(run_id, status, end_time_ms)

    def upload_model(
        self,
        run_id: str,
        folder: Path,
        *,
        name: str,
        step: int,
        metrics: Mapping[str, float],
        params: Mapping[str, object],
        on_done: Callable[[str], None] | None = None,
    ) -> None:
        """Upload a folder of `packaging.save` as the run's logged model, with its metrics of epoch `step`.

        `on_done(model_id)` is called from the outbox's thread once `models:/<model_id>` can be loaded.
        """
        upload = Upload(
            self._client, self._artifacts, self.experiment_id, run_id, folder,
            name=name, step=step, metrics=metrics, params=params, on_done=on_done,
        )  # fmt: skip
        self.outbox.put(run_id, upload, what=f"model {name!r}")

    def delete_model(self, model_id: str) -> None:
        """Remove a logged model, its files included; one that became a registered version stays."""
        self.outbox.put(model_id, Removal(self._client, self._artifacts, model_id), what="its removal")

    def flush(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds until all is sent; False if something is left or was given up."""
        return self.outbox.flush(timeout)

    def close(self, timeout: float | None = None) -> int:
        """Flush, then end the thread; returns how many entries MLflow never got."""
        return self.outbox.close(timeout)

    # ---- how

    def _start(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, object], known: Callable[[], Run | None]
    ) -> str:
        """Make a run; after a lost answer, `known` finds the one that was made all the same."""
        texts, cut = params_of(params)
        all_tags = _defaults() | tags_of(tags) | cut
        tried = False

        def make() -> Run:
            nonlocal tried
            before, tried = known() if tried else None, True
            return before or self._client.create_run(self.experiment_id, run_name=name, tags=all_tags)

        run = self._ask(make)
        run_id = str(run.info.run_id)
        self._artifacts.learn(run_id, run.info.artifact_uri)
        if texts:
            self.outbox.put_batch(run_id, params=texts)
        return run_id

    def _made_since(self, name: str, since_ms: int) -> Run | None:
        quote = '"' if "'" in name else "'"
        found = self._client.search_runs(
            [self.experiment_id],
            f"attributes.run_name = {quote}{name}{quote} and attributes.start_time >= {since_ms}",
            max_results=1,
        )
        return found[0] if found else None

    def _child(self, study_run_id: str, number: str) -> Run | None:
        found = self._client.search_runs(
            [self.experiment_id],
            f"tags.`mlflow.parentRunId` = '{study_run_id}' and tags.`search.trial.number` = '{number}'",
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        return found[0] if found else None

    def _update(self, run_id: str, status: str, end_time_ms: int) -> None:
        """Set status and end in one request; an end of 0 is how MLflow's API says none.

        MlflowClient's own calls need two or three, print addresses to the console, and cannot clear an end.
        """
        from mlflow.entities import RunStatus

        def update() -> None:
            store = self._client._tracking_client.store
            store.update_run_info(run_id, RunStatus.from_string(status), end_time_ms, None)

        self.outbox.put(run_id, update, what=f"status {status}")

    def _send(self, run_id: str, batch: Batch) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(p.key, p.value, p.timestamp, p.step) for p in batch.metrics],
            params=[Param(key, text) for key, text in batch.params.items()],
            tags=[RunTag(key, text) for key, text in batch.tags.items()],
            synchronous=True,  # whatever MLFLOW_ENABLE_ASYNC_LOGGING says: only then does a failure come back to us
        )

    def _ask(self, call: Callable[[], T], patience: float = PATIENCE) -> T:
        """What `call` answers, waited for while the store is away.

        Raises TrackingAway when `patience` seconds are over, TrackingError for anything else.
        """
        deadline, delay = time.monotonic() + patience, 0.5
        while True:
            try:
                return call()
            except TrackingError:
                raise
            except Exception as error:  # MLflow's, requests' and SQLAlchemy's have no common parent
                away = fault_of(error) is Fault.AWAY
                if not away or time.monotonic() + delay > deadline:
                    kind = TrackingAway if away else TrackingError
                    raise kind(f"MLflow at {masked(self.uri)}: {one_line(error)}") from error
            time.sleep(delay)
            delay = min(2 * delay, 5.0)


def _defaults() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": "LOCAL"}
