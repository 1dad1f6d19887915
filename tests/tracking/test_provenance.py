"""A run says which code, versions and machine made it, and gives no secret away."""

import subprocess

import pytest

from tracking import provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q", "-b", "work")
    (tmp_path / "a.py").write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit_and_branch(checkout):
    found = provenance.collect(checkout)
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert (found.branch, found.dirty, found.diff) == ("work", False, "")


def test_changes_are_a_diff_and_new_files_are_named(checkout):
    (checkout / "a.py").write_text("two\n")
    (checkout / "sub").mkdir()
    (checkout / "sub" / "é.py").write_text("password = 1\n")
    found = provenance.collect(checkout / "sub")
    assert found.dirty
    assert "-one\n+two" in found.diff
    assert "# untracked: sub/é.py" in found.diff
    assert "password" not in found.diff


def test_a_checkout_without_a_commit_is_all_diff(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("one\n")
    git(tmp_path, "add", ".")
    found = provenance.collect(tmp_path)
    assert found.commit == ""
    assert found.dirty
    assert "+one" in found.diff


def test_a_huge_diff_is_cut(checkout):
    (checkout / "a.py").write_text("é" * 2**20)
    diff = provenance.collect(checkout).diff
    assert 2**20 <= len(diff.encode()) < 2**20 + 100
    assert "# cut: " in diff.splitlines()[-1]


def test_without_a_checkout_the_commit_is_the_environments(tmp_path, monkeypatch):
    monkeypatch.delenv("SEARCH_GIT_COMMIT", raising=False)
    assert provenance.collect(tmp_path).commit == ""
    monkeypatch.setenv("SEARCH_GIT_COMMIT", "abc123")
    found = provenance.collect(tmp_path)
    assert (found.commit, found.branch, found.dirty, found.diff) == ("abc123", "", False, "")


def test_without_git_there_is_no_error(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.collect(checkout).commit == ""


def test_versions_and_hardware_are_plain_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    found = provenance.collect(tmp_path)
    assert set(found.versions) == {"python", "numpy"}
    assert {"cpu", "cores", "memory", "platform"} <= set(found.hardware)
    assert all(isinstance(text, str) and text for text in found.hardware.values())


def test_secrets_in_the_command_line_are_masked():
    command = ["search", "run", "x", "--storage", "postgresql://u:pw@h/db", "--password", "pw", "--api-key=pw",
               "MLFLOW_TRACKING_TOKEN=pw", "tokens=8..16", "lr=1e-3", "--token", "--json"]  # fmt: skip
    assert provenance.masked_command(command) == (
        "search run x --storage postgresql://u:***@h/db --password *** --api-key=*** "
        "MLFLOW_TRACKING_TOKEN=*** tokens=8..16 lr=1e-3 --token --json"
    )
