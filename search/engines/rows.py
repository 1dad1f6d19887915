"""Puts a lost or damaged trial back into Optuna's tables, under its own number and in its own place."""

from __future__ import annotations

from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from search.errors import StoreError

PARTS = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_heartbeats",
)


def put_back(study: optuna.Study, number: int, trial: FrozenTrial) -> optuna.Study:
    """Write `trial` as trial `number`, in the place of what the store has of it; returns the study, read anew.

    Optuna orders trials by id and knows no way to choose a number, so the row is moved to a free id between its
    neighbours'. Raises StoreError where there is none.
    """
    storage = _database(study)
    with storage.engine.begin() as connection:
        ids = _ids(connection, study._study_id)
        target = ids.get(number) or _between(ids, number, connection)
        _remove(connection, target)
    made = storage.create_new_trial(study._study_id, template_trial=trial)
    if made != target:
        with storage.engine.begin() as connection:
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
                _run(
                    connection,
                    f"UPDATE {table} SET trial_id = :target WHERE trial_id = :made",
                    target=target,
                    made=made,
                )
            _run(connection, "DELETE FROM trials WHERE trial_id = :made", made=made)
    with storage.engine.begin() as connection:
        _run(connection, "UPDATE trials SET number = :number WHERE trial_id = :target", number=number, target=target)
    storage.remove_session()
    return optuna.load_study(
        study_name=study.study_name, storage=RDBStorage(storage.url), sampler=study.sampler, pruner=study.pruner
    )


def _database(study: optuna.Study) -> RDBStorage:
    storage: Any = study._storage
    storage = getattr(storage, "_backend", storage)
    if not isinstance(storage, RDBStorage):
        raise StoreError(f"the study store of {study.study_name!r} is no database; its trials cannot be put back")
    return storage


def _ids(connection: sqlalchemy.Connection, study_id: int) -> dict[int, int]:
    rows = _run(connection, "SELECT number, trial_id FROM trials WHERE study_id = :study", study=study_id)
    return {int(number): int(trial_id) for number, trial_id in rows}


def _between(ids: dict[int, int], number: int, connection: sqlalchemy.Connection) -> int:
    """A free id that keeps the order of numbers; one above all where `number` comes last."""
    low = max((i for n, i in ids.items() if n < number), default=0)
    high = min((i for n, i in ids.items() if n > number), default=0)
    taken = {int(row[0]) for row in _run(connection, "SELECT trial_id FROM trials WHERE trial_id >= :low", low=low)}
    found = next((i for i in range(low + 1, high or max(taken, default=0) + 2) if i not in taken), None)
    if found is None:
        raise StoreError(f"the study store has no room for trial {number} between its neighbours")
    return found


def _remove(connection: sqlalchemy.Connection, trial_id: int) -> None:
    for table in (*PARTS, "trials"):
        _run(connection, f"DELETE FROM {table} WHERE trial_id = :trial", trial=trial_id)


def _run(connection: sqlalchemy.Connection, text: str, **values: Any) -> Any:
    return connection.execute(sqlalchemy.text(text), values)
