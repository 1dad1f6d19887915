"""What becomes of the trials of a study whose space was edited: which fit the new version, and their rows in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import versions
from search.engines import optuna as engine
from search.engines.known import known
from search.fits import Misfit, fit, parameters
from search.mirror import REASON
from search.plan import Plan
from search.versions import ASIDE, ASSUMED, BEGAN_AS, LEFT_SPACE
from spaces import Space, config_hash, declared
from spaces._hp import show


@dataclass(frozen=True)
class Change:
    """One study about to become a new version: `settled` says which of its trials fit, and how."""

    study: optuna.Study
    plan: Plan
    space: Space
    before: Mapping[str, Any]
    change: list[str]

    def settled(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """All that the new version is, as JSON; the study store's rows and the folders follow from it."""
        trials = self.study.get_trials(deepcopy=False)
        said: dict[int, dict[str, Any]] = {}
        taken: dict[str, int] = {}
        for trial in sorted(trials, key=lambda t: (versions.is_left(t), t.number)):
            said[trial.number] = self._of(trial, taken)
        behind = {str(n): s["left"] for n, s in sorted(said.items()) if "left" in s}
        known_versions = versions.noted(self.study.user_attrs)
        entry = {
            "version": known_versions[-1]["version"] + 1,
            "space": now,
            "metric": self.space.metric,
            "change": self.change,
            "since": datetime.now().isoformat(timespec="seconds"),
            "left": behind,
            "place": len(trials) + known_versions[-1]["version"] - 1,
        }
        return {
            "version": entry["version"],
            "versions": [*known_versions, entry],
            "plan": dict(self.study.user_attrs["plan"]) | self.plan.to_json(),
            "trials": {str(n): said[n] for n in sorted(said)},
        }

    def _of(self, trial: FrozenTrial, taken: dict[str, int]) -> dict[str, Any]:
        """What becomes of one trial: it fits, it is left behind, or its number alone is kept."""
        whole = versions.thawed(trial)
        if "config" not in whole.user_attrs:  # the space failed on it, which the edit may have mended; or it is lost
            return {"keeper": True}
        try:
            fits, assumed = self._fit(whole, taken)
            return {"fits": fits, "counts": engine.REFUSED not in whole.user_attrs, ASSUMED: assumed}
        except Misfit as why:
            if engine.REFUSED in whole.user_attrs:
                return {"keeper": True}
            version = trial.user_attrs[versions.LEFT]["version"] if versions.is_left(trial) else self.before["version"]
            end = {} if whole.state.is_finished() else {"ended": datetime.now().timestamp()}
            return {"left": {"version": version, "why": str(why)} | end}

    def _fit(self, trial: FrozenTrial, taken: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(what a trial is in the new version, what is assumed of it for the first time). Raises Misfit."""
        attributes, space = trial.user_attrs, self.space
        found = fit(space, versions.values(trial), self.plan.narrowings)
        defaults, there = versions.defaults(self.before["space"]), declared(space)
        for name in found.aside:
            if name in defaults and name not in there and defaults[name] != found.aside[name]:
                raise Misfit(f"{name} is not drawn any more, only its default {show(defaults[name])} goes on")
        if "parameters" in attributes and parameters(space, found.config) != attributes["parameters"]:
            raise Misfit("its network has another number of parameters now")
        named = config_hash(found.config)
        if taken.setdefault(named, trial.number) != trial.number:
            raise Misfit(f"it is the same as trial {taken[named]} in this space")
        proposal = known(space, found.values, self.plan.narrowings)
        assumed = {n: v for n, v in (attributes.get(ASSUMED, {}) | found.assumed).items() if n in found.values}
        record = engine.record(trial.number, proposal.params, proposal.distributions, {})
        began = attributes.get(BEGAN_AS, attributes["config.hash"])
        fits = {
            "params": record["params"],
            "distributions": record["distributions"],
            "attributes": {"config": found.config, "config.hash": named}
            | ({ASSUMED: assumed} if assumed else {})
            | ({ASIDE: found.aside} if found.aside else {})
            | ({BEGAN_AS: began} if began != named and not trial.state.is_finished() else {}),
        }
        return fits, found.assumed


def row(trial: FrozenTrial, said: Mapping[str, Any], shelved: Any) -> FrozenTrial:
    """A trial as the new version has it."""
    whole = versions.thawed(trial)
    if "fits" in said:
        made = _copied(whole, said["fits"])
    elif "left" in said:
        ended = _ended(whole, said["left"]["ended"]) if "ended" in said["left"] else whole
        shelved = shelved or trial.user_attrs.get(versions.WAS, {}).get("weights")
        made = versions.placeholder(ended, said["left"]["why"], said["left"]["version"], shelved)
    else:
        kept = {k: v for k, v in trial.user_attrs.items() if k in (engine.REFUSED, *versions.OUTSIDE)}
        kept.setdefault(engine.REFUSED, "lost")
        made = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=kept)
    made.datetime_start, made.datetime_complete = (
        whole.datetime_start,
        whole.datetime_complete or made.datetime_complete,
    )
    return made


def renewed(before: Mapping[str, Any], fits: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes in the new version of a trial that had those `before`."""
    own = {k: v for k, v in before.items() if k not in (ASSUMED, ASIDE, BEGAN_AS, *versions.OWN)}
    return own | fits["attributes"]


def _copied(trial: FrozenTrial, fits: Mapping[str, Any]) -> FrozenTrial:
    made = engine.restored(
        {**fits, "attributes": renewed(trial.user_attrs, fits)},
        state=trial.state,
        values=trial.values,
        intermediate_values=dict(trial.intermediate_values),
        system_attrs=dict(trial.system_attrs),
    )
    return made


def _ended(trial: FrozenTrial, at: float) -> FrozenTrial:
    """An unfinished trial that ends with its version, as if it had been pruned."""
    last = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else math.nan
    made = optuna.trial.create_trial(
        state=TrialState.PRUNED,
        value=last if math.isfinite(last) else None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=dict(trial.user_attrs) | {REASON: LEFT_SPACE},
        system_attrs=dict(trial.system_attrs),
        intermediate_values=dict(trial.intermediate_values),
    )
    made.number, made._trial_id, made.datetime_start = trial.number, trial._trial_id, trial.datetime_start
    made.datetime_complete = datetime.fromtimestamp(at)
    return made
