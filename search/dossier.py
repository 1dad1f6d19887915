"""The report of a promotion as one HTML page, from what was measured and decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search import evaluation
from search.page import Compared, Report, render
from search.page import Verdict as Words

if TYPE_CHECKING:
    from search.promote import Promotion, Verdict


def page(promotion: Promotion, verdict: Verdict) -> str:
    """The page's HTML. Raises what the record or the pictures raise."""
    candidate, figures, decision = promotion.candidate, verdict.figures, verdict.decision
    attrs, passed = candidate.attributes, verdict.decision.passed
    kind = ("first" if verdict.champion is None else "accepted") if passed else "refused"
    shown = verdict.measured.shown
    rival = verdict.champion_figures
    rows = []
    if rival is not None:
        rows = [
            Compared("accuracy", figures.accuracy, rival.accuracy),
            Compared("loss", figures.loss, rival.loss),
            Compared("calibration error", figures.ece, rival.ece),
        ]
    return render(
        Report(
            title=f"{promotion.model}: trial {candidate.trial.number} of {promotion.study.study_name}",
            verdict=Words(kind, decision.reason),  # type: ignore[arg-type]
            figures=figures,
            facts={
                "study": promotion.study.study_name,
                "trial": candidate.trial.number,
                "chosen because it is": candidate.why,
                promotion.space.metric: candidate.value,
                "dataset": promotion.data.name,
                "data digest": promotion.data.digest,
                "test split opened, in all": verdict.openings,
                "configuration hash": attrs["config.hash"],
                "parameters": attrs.get("parameters", ""),
                "seed": attrs["seed"],
                "backend": promotion.plan.backend,
                "MLflow run": candidate.run_id,
                "logged model": candidate.model_id,
            },
            configuration=attrs["config"],
            history=promotion.trained.history,
            robustness=verdict.measured.robustness,
            comparison=rows,
            mistakes=[
                (mistake, shown[mistake.index])
                for mistake in evaluation.mistakes(verdict.measured.probabilities, verdict.measured.labels)
                if mistake.index in shown
            ],
            measured_on=f"images of the test split of {promotion.data.name}",
        )
    )
