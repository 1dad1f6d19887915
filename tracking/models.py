"""Uploads a packaged model as MLflow's logged model of a run, and removes one for good, both safe to call again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.artifacts import Artifacts
from tracking.client import or_none
from tracking.faults import Fault, fault_of
from tracking.integrity import DIGEST_TAG, folder_digest
from tracking.values import params_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

STEP_TAG = "search.step"


class Upload:
    """One upload. Called until it raises nothing: each call goes on where the one before failed.

    The model turns READY last, so a READY one is whole: where an earlier process was killed in between, its PENDING
    one is taken up again instead of leaving it behind and making a second.
    """

    def __init__(
        self,
        client: MlflowClient,
        artifacts: Artifacts,
        experiment_id: str,
        run_id: str,
        folder: Path,
        *,
        name: str,
        step: int,
        metrics: Mapping[str, float],
        params: Mapping[str, object],
        on_done: Callable[[str], None] | None,
    ) -> None:
        self._client, self._artifacts = client, artifacts
        self._experiment_id, self._run_id, self._folder = experiment_id, run_id, folder
        # MLflow has no column for a model metric that is not a number: it would keep a NaN as 0.
        self._metrics = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
        self._name, self._step = name, step
        self._params = params_of(params)[0]
        self._on_done = on_done
        self._model: LoggedModel | None = None
        self._stored = False

    def __call__(self) -> None:
        """Upload, or go on uploading."""
        found = self._model or self._begun()
        model = self._model = found or self._create()
        if not _is_ready(model):
            if not self._stored:
                _stamp(self._folder, model, self._run_id)
                # Before the files: whoever finds them can tell whether they are still these.
                self._client.set_logged_model_tags(model.model_id, {DIGEST_TAG: folder_digest(self._folder)})
                self._artifacts.upload(model.artifact_location, self._folder)
                self._stored = True
            self._link(model)
            self._client.finalize_logged_model(model.model_id, "READY")
        if self._on_done:
            self._on_done(model.model_id)

    def _begun(self) -> LoggedModel | None:
        found = self._client.search_logged_models(
            [self._experiment_id],
            filter_string=f"source_run_id = '{self._run_id}' AND name = '{self._name}' "
            f"AND tags.`{STEP_TAG}` = '{self._step}'",
            max_results=1,
        )
        return found[0] if found else None

    def _create(self) -> LoggedModel:
        return self._client.create_logged_model(
            self._experiment_id,
            name=self._name,
            source_run_id=self._run_id,
            tags={STEP_TAG: str(self._step)},
            params=self._params,
            model_type="keras",
        )

    def _link(self, model: LoggedModel) -> None:
        """Make it an output of its run, with its metrics."""
        from mlflow.entities import LoggedModelOutput, Metric
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_outputs(self._run_id, [LoggedModelOutput(model.model_id, self._step)])
        except MlflowException as error:
            # A link that is there already (an answer got lost, or a process was killed) is refused as a duplicate.
            if fault_of(error) is not Fault.REFUSED or not self._linked(model.model_id):
                raise
        if self._metrics:
            at = self._logged_at()
            points = [
                Metric(key, value, at, self._step, model_id=model.model_id, run_id=self._run_id)
                for key, value in self._metrics.items()
            ]
            self._client.log_batch(self._run_id, metrics=points)

    def _linked(self, model_id: str) -> bool:
        outputs = self._client.get_run(self._run_id).outputs
        return outputs is not None and any(m.model_id == model_id for m in outputs.model_outputs)

    def _logged_at(self) -> int:
        """When the run's own metrics of this step were logged, in ms.

        MLflow writes a model's metrics into its run's history too. The same time makes them the same points, which it
        drops; any other would double them.
        """
        history = self._client.get_metric_history(self._run_id, next(iter(self._metrics)))
        times = [metric.timestamp for metric in history if metric.step == self._step]
        return times[0] if times else int(time.time() * 1000)


class Removal:
    """Removes a logged model's files, then its record; a model that was registered stays."""

    def __init__(self, client: MlflowClient, artifacts: Artifacts, model_id: str) -> None:
        self._client, self._artifacts, self._model_id = client, artifacts, model_id

    def __call__(self) -> None:
        """Remove it; nothing to do where it is gone already."""
        model = or_none(lambda: self._client.get_logged_model(self._model_id))
        if model is None or self._is_registered(model):
            return
        # The files first: once the record is gone, nobody knows where they were.
        self._artifacts.remove_model(model.artifact_location)
        self._client.delete_logged_model(self._model_id)

    def _is_registered(self, model: LoggedModel) -> bool:
        versions: list[Any] = []
        if model.source_run_id:
            versions = list(self._client.search_model_versions(f"run_id = '{model.source_run_id}'"))
        return any(model.model_id in (v.model_id, v.source.rpartition("/")[2]) for v in versions)


def _is_ready(model: LoggedModel) -> bool:
    return str(getattr(model.status, "value", model.status)) == "READY"


def _stamp(folder: Path, model: LoggedModel, run_id: str) -> None:
    """Write into the folder's MLmodel whose it is: what MLflow itself writes when it logs a model."""
    from mlflow.models import Model

    described = Model.load(str(folder / "MLmodel"))
    described.model_id = described.model_uuid = model.model_id
    described.run_id = run_id
    described.artifact_path = model.artifact_location
    aside = folder.with_name(f".{folder.name}.MLmodel")
    described.save(str(aside))
    aside.replace(folder / "MLmodel")
