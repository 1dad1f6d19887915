"""Puts lost or damaged trials back into Optuna's tables, under their own numbers and in their own places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from search.engines import optuna as engine
from search.errors import StoreError

NOT_PUT_BACK = "its trials cannot be put back"

PARTS = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_heartbeats",
)
TORN = "search.restoring"  # a row that was written and not yet moved into its place


def put_back(study: optuna.Study, trials: Mapping[int, FrozenTrial]) -> optuna.Study:
    """Write `trials` by number, in the place of what the store has of them; returns the study, read anew.

    Optuna orders trials by id and knows no way to choose a number, so each row is moved to a free id between its
    neighbours'. A kill in between leaves a row that `sweep` removes. Raises StoreError where there is no free id.
    """
    if not trials:
        return study
    storage = engine.database(study, NOT_PUT_BACK)
    for number, trial in sorted(trials.items()):
        trial.set_user_attr(TORN, number)
        made = storage.create_new_trial(study._study_id, template_trial=trial)
        storage.remove_session()
        with storage.engine.begin() as connection:
            _move(connection, study._study_id, made, number)
    return _again(study, storage)


def sweep(study: optuna.Study) -> optuna.Study:
    """Remove what a `put_back` that was killed left; returns the study, read anew where there was something."""
    storage = engine.database(study, NOT_PUT_BACK)
    with storage.engine.begin() as connection:
        found = _run(
            connection,
            "SELECT trials.trial_id FROM trials JOIN trial_user_attributes ON trial_user_attributes.trial_id = "
            "trials.trial_id WHERE study_id = :study AND key = :key",
            study=study._study_id,
            key=TORN,
        ).fetchall()
        for (trial_id,) in found:
            _remove(connection, trial_id)
    return _again(study, storage) if found else study


def take_over(old: optuna.Study, new: optuna.Study, aside: str) -> None:
    """Give `new` the name of `old`, which is called `aside` from then on: both or neither, whenever it is killed."""
    storage = engine.database(old, "no other study can take its name")
    storage.remove_session()
    with storage.engine.begin() as connection:
        for study, name in ((old, aside), (new, old.study_name)):
            _run(
                connection,
                "UPDATE studies SET study_name = :name WHERE study_id = :study",
                name=name,
                study=study._study_id,
            )


def _move(connection: sqlalchemy.Connection, study_id: int, made: int, number: int) -> None:
    rows = _run(connection, "SELECT number, trial_id FROM trials WHERE study_id = :study", study=study_id).fetchall()
    ids = {int(n): int(trial_id) for n, trial_id in rows if trial_id != made}
    target = ids[number] if number in ids else _between(ids, number, made, connection)
    if target != made:
        _remove(connection, target)
        columns = "study_id, state, datetime_start, datetime_complete"
        _run(
            connection,
            f"INSERT INTO trials (trial_id, number, {columns}) SELECT :target, :number, {columns} "
            "FROM trials WHERE trial_id = :made",
            target=target,
            number=number,
            made=made,
        )
        for table in PARTS:
            _run(connection, f"UPDATE {table} SET trial_id = :target WHERE trial_id = :made", target=target, made=made)
        _run(connection, "DELETE FROM trials WHERE trial_id = :made", made=made)
    _run(connection, "UPDATE trials SET number = :number WHERE trial_id = :target", number=number, target=target)
    _run(
        connection,
        "DELETE FROM trial_user_attributes WHERE trial_id = :target AND key = :key AND value_json = :value",
        target=target,
        key=TORN,
        value=json.dumps(number),
    )


def _again(study: optuna.Study, storage: RDBStorage) -> optuna.Study:
    """Optuna keeps finished trials in memory, so what was changed below it is only seen by a new storage."""
    fresh = engine.storage(storage.url)
    return optuna.load_study(study_name=study.study_name, storage=fresh, sampler=study.sampler, pruner=study.pruner)


def _between(ids: Mapping[int, int], number: int, made: int, connection: sqlalchemy.Connection) -> int:
    """A free id that keeps the order of numbers; `made` itself where `number` comes last and none is free below."""
    low = max((i for n, i in ids.items() if n < number), default=0)
    high = min((i for n, i in ids.items() if n > number), default=made + 1)
    taken = {
        int(row[0])
        for row in _run(
            connection, "SELECT trial_id FROM trials WHERE trial_id > :low AND trial_id < :high", low=low, high=high
        )
    }
    found = next((i for i in range(low + 1, high) if i == made or i not in taken), None)
    if found is None:
        raise StoreError(f"the study store has no room for trial {number} between its neighbours")
    return found


def _remove(connection: sqlalchemy.Connection, trial_id: int) -> None:
    for table in (*PARTS, "trials"):
        _run(connection, f"DELETE FROM {table} WHERE trial_id = :trial", trial=trial_id)


def _run(connection: sqlalchemy.Connection, text: str, **values: Any) -> Any:
    return connection.execute(sqlalchemy.text(text), values)
