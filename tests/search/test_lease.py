"""One owner a study: refused with the owner's name while it lives, taken over when it is dead."""

import os
import subprocess
import sys
import time

import optuna
import pytest

from search import lease
from search.engines import optuna as engine
from search.errors import StudyBusy


@pytest.fixture
def study(tmp_path):
    store = engine.storage(f"sqlite:///{tmp_path}/study.db")
    return engine.open_study(store, "s", direction="maximize", pruner=optuna.pruners.NopPruner(), create=True)


def held_by(study, **changed):
    """Somebody's lease: this process', unless changed."""
    lease._write(study, "theirs")
    study.set_user_attr(lease.ATTRIBUTE, study.user_attrs[lease.ATTRIBUTE] | changed)


def test_a_study_is_held_while_it_runs_and_free_afterwards(study):
    said = []
    with lease.leased(study, said.append):
        assert lease.holder(study).startswith(f"process {os.getpid()} on ")
        with pytest.raises(StudyBusy, match=f"run by process {os.getpid()} on "), lease.leased(study, said.append):
            pass
    assert lease.holder(study) is None
    with lease.leased(study, said.append):
        pass
    assert said == []


def test_a_process_of_this_machine_that_is_gone_is_replaced_at_once(study):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held_by(study, pid=gone.pid)
    said = []
    with lease.leased(study, said.append):
        pass
    assert f"taken over from process {gone.pid} on" in said[0]


def test_another_process_with_the_number_of_the_dead_owner_is_not_mistaken_for_it(study):
    held_by(study, born=1.0)
    with lease.leased(study, lambda line: None):
        pass


def test_an_owner_on_another_machine_lives_as_long_as_it_gives_signs(study, monkeypatch):
    monkeypatch.setattr(lease, "SETTLE", 0.01)
    held_by(study, host="elsewhere", pid=7, beat=time.time() - 3)
    with (
        pytest.raises(StudyBusy, match="run by process 7 on elsewhere, last heard of 3 s ago.*try again in 27 s"),
        lease.leased(study, lambda line: None),
    ):
        pass
    held_by(study, host="elsewhere", pid=7, beat=time.time() - 31)
    said = []
    with lease.leased(study, said.append):
        pass
    assert "taken over from process 7 on elsewhere" in said[0]


def test_an_owner_renews_its_lease_and_notices_when_it_was_taken_over(study, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with lease.leased(study, lambda line: None) as mine:
        first = study.user_attrs[lease.ATTRIBUTE]["beat"]
        assert eventually(lambda: study.user_attrs[lease.ATTRIBUTE]["beat"] > first)
        assert not mine.lost
        held_by(study, token="another's")
        assert eventually(lambda: mine.lost)
    assert study.user_attrs[lease.ATTRIBUTE]["token"] == "another's", "what is another's is not released"


def test_of_two_that_take_over_at_the_same_moment_one_goes_on(study, monkeypatch):
    held_by(study, host="elsewhere", beat=time.time() - 60)

    def rival(seconds):
        lease._write(study, "rival")

    monkeypatch.setattr(lease.time, "sleep", rival)
    with pytest.raises(StudyBusy, match="at the same moment"), lease.leased(study, lambda line: None):
        pass


def eventually(condition):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
