"""The story of a promotion: choose, open the test split, compare, decide, register, move the alias or not."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from search import candidate as candidates
from search import evaluation, gate, job, report, sealed, shown, simulated, store, weights
from search.candidate import Candidate
from search.errors import OK, REFUSED, InputError, SearchError
from search.evaluation import Figures
from search.plan import Plan, Request, check_data, noted_data
from search.plan import resume as resumed_plan
from search.reproduce import RECIPE, RECIPE_TAG, REPORT_TAG
from search.retrain import retrain
from search.sealed import Measured, Model
from search.settings import Settings, masked, tracking_problem
from search.specs import space_of, trial_spec
from search.trained import Trained, trained
from spaces import Space
from spaces._hp import show
from spaces.datasets import DataSpec, describe, prepare
from tracking import openings, registry
from tracking.client import Connection
from tracking.history import ChampionChanged
from tracking.integrity import DIGEST_TAG, EVALUATION, file_digest
from tracking.registry import Version

MODEL_NAME = re.compile(r"\w([\w .-]{0,198}[\w.-])?")
MOST_LOOKS = 5  # at champions that others put there meanwhile


@dataclass(frozen=True)
class Asked:
    """What a promotion was asked to do; `baseline` is a name, `none`, or None for the space's own."""

    study: str
    trial: int | None = None
    model: str | None = None
    baseline: str | None = None
    least_gain: float = gate.Rules.least_gain
    dry_run: bool = False


@dataclass(frozen=True)
class Verdict:
    """The gate's decision, the candidate's figures on the test split, and the champion it met, if any.

    `openings` is how often the test split of this data was opened, by anybody on this tracking store.
    """

    decision: gate.Decision
    figures: Figures
    measured: Measured
    champion: Version | None
    champion_figures: Figures | None
    openings: int


class Promotion:
    """One promotion of one candidate to one registered model."""

    def __init__(self, asked: Asked, settings: Settings, say: Callable[[str], None]) -> None:
        self.asked, self.settings, self.say = asked, settings, say
        self.study: optuna.Study = report.load(asked.study, settings)
        stored = self.study.user_attrs["plan"]
        simulated.refuse(stored, asked.study, "promote")
        self.plan: Plan = resumed_plan(stored, Request(space=stored["space"], study=asked.study))
        self.space: Space = space_of(self.plan)
        self.data: DataSpec = describe(self.space.dataset)
        check_data(asked.study, self.space, noted_data(self.study.user_attrs))
        self.model = asked.model or self.space.name
        self.place = f"{EVALUATION}/{self.model}"  # a model may be a version under several names, each with its report
        self.rules = gate.Rules(least_gain=asked.least_gain)
        self.connection = Connection(settings.tracking_uri, self.space.name, settings.artifacts)
        self.candidate: Candidate = candidates.choose(self.study, asked.trial)
        self.goals = shown.goals_of(self.study)
        repeated = stored.get("repeats")
        self.origin: str = repeated[0]["study"] if repeated else asked.study  # where baselines ran
        if asked.baseline is not None:
            _ = self.baseline  # one that is not there is said before anything else

    @cached_property
    def trained(self) -> Trained:
        """How the candidate was trained."""
        folder = store.trial_folder(self.settings.study_folder(self.asked.study), self.candidate.trial.number)
        return trained(folder, self.candidate.run_id, self.connection)

    # ---- the story

    def story(self) -> tuple[int, dict[str, Any]]:
        """The exit code and all that was found."""
        self.say(f"{self.candidate}: {self.candidate.why}, {self.space.metric} {self.candidate.value:.4f}")
        if not self.goals.plain:
            self.say(f"its figures: {shown.line(self.candidate.trial, self.goals)}")
        open_still = sum(not trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))
        if open_still:
            self.say(f"note: {open_still} of the study's trials have not ended yet")
        champion = registry.champion(self.settings.tracking_uri, self.model)
        if champion is not None and champion.model_id == self.candidate.model_id:
            self.say(f"{self.model} version {champion.version} is this model and champion already")
            return OK, {"model": self.model, "version": champion.version, "passed": True, "already": True}
        if refused := self._other_data(champion):
            self.say(f"refused: {refused}")
            return REFUSED, {"model": self.model, "version": None, "passed": False, "reason": refused}
        if champion is None:
            _ = self.baseline  # what is wrong with it is said before the test split opens
        data_folder = prepare(
            self.space.dataset, cache=self.settings.cache, data=self.settings.data, progress=False, say=self.say
        )
        version: Version | None = None
        for _ in range(MOST_LOOKS):
            verdict = self._judge(champion, data_folder)
            if self.asked.dry_run:
                self.say("dry run: nothing was registered and no alias was moved")
                return (OK if verdict.decision.passed else REFUSED), self._told(verdict, None, None)
            version = version or self._register(verdict)
            try:
                before = self._move(version, verdict)
            except ChampionChanged as changed:
                self.say(f"{changed}; compared with that one")
                champion = registry.champion(self.settings.tracking_uri, self.model)
                continue
            return (OK if verdict.decision.passed else REFUSED), self._told(verdict, version, before)
        raise ChampionChanged(f"{self.model}: the champion keeps changing; try again when others are done")

    def _other_data(self, champion: Version | None) -> str:
        """Why the champion's figures cannot be compared with the candidate's; empty where they can."""
        theirs = champion.tags.get("search.data.digest") if champion else None
        if champion is None or theirs == self.data.digest:
            return ""
        told = f"data {theirs[:12]}" if theirs else "data that nobody noted"
        return (
            f"version {champion.version}, the champion, was measured on {told}, this study is on {self.data.name} "
            f"{self.data.digest[:12]}; figures on different data are not compared: promote under another "
            "name with --model"
        )

    def _judge(self, champion: Version | None, data_folder: Path) -> Verdict:
        """Measure the candidate and whom it has to beat, and decide."""
        with self._rival(champion, data_folder) as rival:
            models = [self._model_of(self.candidate), *([rival] if rival else [])]
            measured = sealed.measure(
                models,
                self.data,
                data_folder,
                self.settings,
                self.connection,
                purpose=f"promotion of {self.candidate} ({self.candidate.why}) to {self.model}",
                by=registry.who(),
            )
        mine, theirs = measured[0], (measured[1] if rival else None)
        known = self.data.class_names
        figures = _figures(str(self.candidate), mine, known)
        opened = len(openings.of(self.connection, self.data.digest))
        self.say(
            f"test split of {self.data.name} ({figures.images:,} images, opened {_times(opened)} in all): accuracy "
            f"{figures.accuracy:.4f} (95 % interval {figures.accuracy_interval[0]:.4f} to "
            f"{figures.accuracy_interval[1]:.4f}), loss {figures.loss:.4f}"
        )
        if champion is None:
            named = (rival.name, theirs.right) if rival and theirs else None
            decision = gate.first(mine.right, mine.labels, named, self.rules)
        else:
            assert theirs is not None
            decision = gate.challenge(mine.right, theirs.right, f"version {champion.version}, the champion", self.rules)
        for comparison in decision.comparisons:
            self.say(str(comparison))
        self.say("passed" if decision.passed else f"refused: {decision.needed}")
        other = _figures("the champion", theirs, known) if champion and theirs else None
        return Verdict(decision, figures, mine, champion, other, opened)

    @contextmanager
    def _rival(self, champion: Version | None, data_folder: Path) -> Iterator[Model | None]:
        """Whom the candidate has to beat: the champion, or, where there is none, the baseline."""
        if champion is not None:
            folder = registry.fetch(self.settings.tracking_uri, champion, self.settings.models)
            yield Model(f"version {champion.version}", folder, champion.tags.get("search.backend", "tensorflow"))
        elif self.baseline is None:
            yield None
        else:
            with self._of_baseline(self.baseline, data_folder) as folder:
                name = f"baseline {self.baseline.user_attrs['baseline']}"
                yield Model(name, folder, self.plan.backend)

    @contextmanager
    def _of_baseline(self, trial: optuna.trial.FrozenTrial, data_folder: Path) -> Iterator[Path]:
        """The baseline's model: as it was kept, else trained again."""
        model_id = weights.model_id(self.source, trial.number)
        if model_id:
            yield registry.fetch_model(self.settings.tracking_uri, model_id, self.settings.models)
            return
        name = trial.user_attrs["baseline"]
        self.say(f"the weights of baseline {name} were not kept; it is trained again")
        stored = self.source.user_attrs["plan"]
        plan = resumed_plan(stored, Request(space=stored["space"], study=self.source.study_name))
        with tempfile.TemporaryDirectory(prefix="keras-search-") as folder:
            spec = trial_spec(
                plan,
                self.space,
                trial.number,
                trial.user_attrs,
                folder=Path(folder, "trial"),
                data_folder=data_folder,
            )
            yield retrain(spec, job.place(), plan.backend).model

    @cached_property
    def source(self) -> optuna.Study:
        """The study that baselines ran in: this one, or the one that was repeated. Raises InputError."""
        if self.origin == self.asked.study:
            return self.study
        if self.origin not in report.names(self.settings):
            raise InputError(
                f"study {self.origin!r}, whose baseline a first champion has to beat, is gone; --baseline none "
                "promotes without it"
            )
        return report.load(self.origin, self.settings)

    @cached_property
    def baseline(self) -> optuna.trial.FrozenTrial | None:
        """The baseline that a first champion has to beat; None where there is none, or it is the candidate itself."""
        name = self.asked.baseline
        if name == "none":
            return None
        always = [b.name for b in self.space.baselines if b.always]
        chosen = name if name is not None else (always[0] if always else None)
        found = candidates.baseline(self.source, chosen) if chosen else None
        if name is not None and found is None:
            known = ", ".join(
                sorted({t.user_attrs["baseline"] for t in self.source.trials if "baseline" in t.user_attrs})
            )
            raise InputError(
                f"--baseline {shlex.quote(name)}: not a complete baseline of the study; there: "
                f"{known or 'none'}, or none"
            )
        mine = self.candidate.attributes["config.hash"]
        return None if found is not None and found.user_attrs["config.hash"] == mine else found

    def _model_of(self, candidate: Candidate) -> Model:
        folder = registry.fetch_model(self.settings.tracking_uri, candidate.model_id, self.settings.models)
        return Model(str(candidate), folder, self.plan.backend)

    # ---- the registry

    def _register(self, verdict: Verdict) -> Version:
        """The candidate as a version without an alias, its evaluation beside its files."""
        recipe = self._keep_evaluation(verdict)
        return registry.register(
            self.settings.tracking_uri,
            model_name=self.model,
            model_id=self.candidate.model_id,
            run_id=self.candidate.run_id,
            tags=self._tags(verdict) | {RECIPE_TAG: recipe},
            description=self._description(verdict),
        )

    def _move(self, version: Version, verdict: Verdict) -> str | None:
        """Make it champion or challenger; gives the version it replaces."""
        uri, decision = self.settings.tracking_uri, verdict.decision
        tags = self._tags(verdict) | {
            "search.gate": "passed" if decision.passed else "refused",
            "search.gate.reason": decision.reason,
        }
        expected = verdict.champion.version if verdict.champion else None
        if decision.passed:
            return registry.promote(
                uri, self.model, version.version, expected=expected, facts=self._facts(verdict), tags=tags
            )
        registry.refuse(uri, self.model, version.version, facts=self._facts(verdict), tags=tags)
        return None

    def _tags(self, verdict: Verdict) -> dict[str, str]:
        attrs, figures = self.candidate.attributes, verdict.figures
        judged = {} if self.goals.plain else shown.figures(self.candidate.trial, self.goals)
        return self._origin | {
            **{f"search.{name}": f"{value:.6g}" for name, value in judged.items()},
            "search.study": self.study.study_name,
            "search.trial.number": str(self.candidate.trial.number),
            "search.space": self.space.name,
            "search.dataset": self.data.name,
            "search.data.digest": self.data.digest,
            "search.config.hash": attrs["config.hash"],
            "search.seed": str(attrs["seed"]),
            "search.backend": self.plan.backend,
            "search.parameters": str(attrs.get("parameters", "")),
            f"search.{self.space.metric}": f"{self.candidate.value:.6g}",
            "search.test.images": str(figures.images),
            "search.test.accuracy": f"{figures.accuracy:.6g}",
            "search.test.accuracy.interval": _span(figures.accuracy_interval),
            "search.test.loss": f"{figures.loss:.6g}",
            "search.test.loss.interval": _span(figures.loss_interval),
            "search.test.openings": str(verdict.openings),
            "search.chosen": self.candidate.why,
            REPORT_TAG: f"{self.place}/report.html",
        }

    @cached_property
    def _run_tags(self) -> dict[str, str]:
        return registry.run_tags(self.settings.tracking_uri, self.candidate.run_id)

    @cached_property
    def _origin(self) -> dict[str, str]:
        """What MLflow knows of the candidate: the commit it was trained at and its files' digest, where noted."""
        digest = registry.digest_of(self.settings.tracking_uri, self.candidate.model_id)
        found = {"search.commit": self._run_tags.get("mlflow.source.git.commit"), DIGEST_TAG: digest}
        return {name: text for name, text in found.items() if text}

    def _facts(self, verdict: Verdict) -> dict[str, Any]:
        """What history keeps of the decision."""
        figures, decision = verdict.figures, verdict.decision
        return {
            "study": self.study.study_name,
            "trial": self.candidate.trial.number,
            "accuracy": figures.accuracy,
            "interval": list(figures.accuracy_interval),
            "images": figures.images,
            "data": self.data.digest,
            "openings": verdict.openings,
            "kind": decision.kind,
            "reason": decision.reason,
            "comparisons": [asdict(c) for c in decision.comparisons],
        }

    def _description(self, verdict: Verdict) -> str:
        figures, attrs = verdict.figures, self.candidate.attributes
        config = "\n".join(f"| {name} | {show(value)} |" for name, value in attrs["config"].items())
        return (
            f"{self.space.summary}.\n\nTrial {self.candidate.trial.number} of study {self.study.study_name}: "
            f"{self.candidate.why}.\n\nTest accuracy **{figures.accuracy:.4f}** (95 % interval "
            f"{figures.accuracy_interval[0]:.4f} to {figures.accuracy_interval[1]:.4f}, {figures.images:,} images of "
            f"{self.data.name}), loss {figures.loss:.4f}; {self.space.metric} {self.candidate.value:.4f}.\n\n"
            f"Gate: {verdict.decision.reason}.\n\n| hyperparameter | value |\n| --- | --- |\n{config}\n\n"
            f"The full report is `{self.place}/report.html` among the model's artifacts."
        )[:5000]

    def _keep_evaluation(self, verdict: Verdict) -> str:
        """Put report, figures, test probabilities and the recipe beside the model's files; the recipe's digest."""
        import numpy as np

        from search.dossier import page

        with tempfile.TemporaryDirectory(prefix="keras-search-") as temporary:
            folder = Path(temporary)
            said = verdict.figures.to_json() | {"gate": verdict.decision.reason}
            store.write_json(folder / "figures.json", said, crc=False)
            store.write_json(folder / RECIPE, self._recipe(), crc=False)
            np.savez_compressed(
                folder / "test.npz", probabilities=verdict.measured.probabilities, labels=verdict.measured.labels
            )
            (folder / "report.html").write_text(page(self, verdict), encoding="utf-8")
            registry.add_files(self.settings.tracking_uri, self.candidate.model_id, self.place, folder)
            return file_digest(folder / RECIPE)

    def _recipe(self) -> dict[str, Any]:
        """All that training it again needs, wherever that happens."""
        spec = trial_spec(
            self.plan,
            self.space,
            self.candidate.trial.number,
            self.candidate.attributes,
            folder=Path("trial"),
            data_folder=Path("data"),
        )
        return {
            "spec": spec.to_json(),
            "history": self.trained.history,
            "backend": self.plan.backend,
            "slots": len(self.plan.slots),
            "device": self.trained.device,
            "data": {"name": self.data.name, "digest": self.data.digest},
            "space": {"name": self.plan.space, "sha256": self._space_digest()},
            "provenance": self.trained.provenance,
        }

    def _space_digest(self) -> str:
        """Of the space's file as it was when the trial was trained, where that was noted; else as it is now."""
        noted = self._run_tags.get("search.space.hash")
        return noted or (file_digest(self.space.path) if self.space.path else "")

    # ---- words

    def _told(self, verdict: Verdict, version: Version | None, before: str | None) -> dict[str, Any]:
        passed = verdict.decision.passed
        if version is not None and passed:
            self.say(
                f"{self.model} version {version.version} is champion"
                + (f"; version {before} is now previous" if before else "")
            )
            self.say(f"report:  {self.place}/report.html among the model's artifacts in MLflow")
            named = shlex.quote(f"{self.model}@champion")
            self.say(f"predict: python -m search predict {named} FILES")
            self.say(f"serve:   python -m search serve {named}")
        elif version is not None:
            standing = (
                f"version {verdict.champion.version} stays champion" if verdict.champion else "there is no champion"
            )
            self.say(f"{self.model} version {version.version} is challenger; {standing}")
        return {
            "model": self.model,
            "version": version.version if version else None,
            "alias": None if version is None else ("champion" if passed else "challenger"),
            "passed": passed,
            "dry_run": self.asked.dry_run,
            "previous": before,
            "study": self.study.study_name,
            "trial": self.candidate.trial.number,
            "chosen": self.candidate.why,
            "value": self.candidate.value,
            "figures": shown.figures(self.candidate.trial, self.goals),
            "model_id": self.candidate.model_id,
            "run_id": self.candidate.run_id,
            "test": verdict.figures.to_json(),
            "robustness": verdict.measured.robustness,
            "reason": verdict.decision.reason,
            "comparisons": [asdict(c) for c in verdict.decision.comparisons],
            "openings": verdict.openings,
        }


def _figures(name: str, measured: Measured, class_names: Sequence[str]) -> Figures:
    """Raises SearchError where a model gives something else than probabilities."""
    try:
        return evaluation.measure(measured.probabilities, measured.labels, class_names)
    except ValueError as error:
        raise SearchError(f"{name}: {error}; such a model cannot be promoted") from error


def promote(asked: Asked, settings: Settings, as_json: bool) -> int:
    """Take a study's best trial, or the one that is named, through the gate.

    Returns 0 where it is champion now, 3 where it was refused. Raises InputError where there is no such trial, its
    weights were not kept or a place cannot be used, TrackingError and JobError with one line.
    """
    place = tracking_problem(settings)
    if place:
        raise InputError(place)
    if asked.model is not None and not MODEL_NAME.fullmatch(asked.model):
        raise InputError(f"--model {asked.model}: use letters, digits, spaces, dots, dashes and underscores")
    if not 0 <= asked.least_gain < 1:
        raise InputError(f"--min-gain {asked.least_gain:g}: give a difference in accuracy from 0 to 1, like 0.001")
    said: list[str] = []
    code, found = Promotion(asked, settings, said.append if as_json else _print).story()
    if as_json:
        report.emit(found | {"exit_code": code, "said": said})
    elif code == OK and found.get("version"):
        print(
            f"load it: mlflow.keras.load_model('models:/{found['model']}@champion') with MLFLOW_TRACKING_URI="
            f"{settings.pages or masked(settings.tracking_uri)}"
        )
    return code


def _print(line: str) -> None:
    print(line, flush=True)


def _span(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.6g} to {interval[1]:.6g}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
