"""The server is started small and without its database's password in sight; a study's page is one address."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tracking import server as servers


def test_the_command_has_one_worker_no_jobs_no_telemetry_and_no_password():
    uri = "postgresql+psycopg://me:secret@db/mlflow"
    arguments, environment = servers.command(uri, artifact_root=Path("files"), host="127.0.0.1", port=5001)
    assert arguments[1:4] == ["-m", "mlflow", "server"]
    assert arguments[arguments.index("--workers") + 1] == "1"
    assert arguments[arguments.index("--port") + 1] == "5001"
    assert "secret" not in " ".join(arguments)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_studys_page_shows_its_trials_the_best_first():
    url = servers.study_url("http://127.0.0.1:5000/", "7", "abc", metric="val_loss", maximize=False)
    assert url.startswith("http://127.0.0.1:5000/#/experiments/7/runs?")
    state = parse_qs(urlsplit(urlsplit(url).fragment).query)
    assert state["searchFilter"] == ["tags.`mlflow.parentRunId` = 'abc'"]
    assert (state["orderByKey"], state["orderByAsc"]) == (["metrics.`val_loss`"], ["true"])
    # Sorted by date, MLflow's table would fold them into their parent.
    assert "start_time" not in servers.study_url("http://h", "7", "abc")
