"""Workers hold no credentials."""

import pytest

from search.executors.environment import is_secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGPASSWORD", "x"),
        ("MLFLOW_TRACKING_PASSWORD", "x"),
        ("MLFLOW_TRACKING_URI", "http://a"),
        ("AWS_SESSION_TOKEN", "x"),
        ("SEARCH_STORAGE", "sqlite:///x"),
        ("HF_TOKEN", "x"),
        ("DATABASE_URL", "postgresql://u:p@h/d"),
        ("MY_API_KEY", "x"),
        ("POSTGRES_PASSWORD", "x"),
        ("AZURE_STORAGE_ACCESS_KEY", "x"),
    ],
)
def test_credentials_and_stores_are_kept_from_workers(name, value):
    assert is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PATH", "/usr/bin"), ("HOME", "/root"), ("CUDA_HOME", "/usr/local"), ("NOTE", "see http://a/b@c")],
)
def test_what_training_may_need_is_passed_on(name, value):
    assert not is_secret(name, value)
