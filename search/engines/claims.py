"""Sets an attribute of a study where nobody has changed it meanwhile: of several that try at once one succeeds."""

from __future__ import annotations

import json
from typing import Any

import optuna
import sqlalchemy

from search.engines import optuna as engine

NO_OWNER = "nobody can own a study in it"


def read(study: optuna.Study, key: str) -> str | None:
    """An attribute of a study as the store has it, None where it has none."""
    with engine.database(study, NO_OWNER).engine.connect() as connection:
        found = connection.execute(
            sqlalchemy.text("SELECT value_json FROM study_user_attributes WHERE study_id = :study AND key = :key"),
            {"study": study._study_id, "key": key},
        ).fetchone()
    return None if found is None else str(found[0])


def swap(study: optuna.Study, key: str, old: str | None, new: Any) -> bool:
    """Set an attribute that `read` as `old`; false, and nothing is changed, where it has become another."""
    values = {"study": study._study_id, "key": key, "old": old, "new": json.dumps(new)}
    if old is None:
        text = "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (:study, :key, :new)"
    else:
        text = (
            "UPDATE study_user_attributes SET value_json = :new "
            "WHERE study_id = :study AND key = :key AND value_json = :old"
        )
    try:
        with engine.database(study, NO_OWNER).engine.begin() as connection:
            return connection.execute(sqlalchemy.text(text), values).rowcount == 1
    except sqlalchemy.exc.IntegrityError:  # one line a key: another was first
        return False
