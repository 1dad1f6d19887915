"""One owner a study: refused with the owner's name while it lives, taken over when it is dead."""

import os
import subprocess
import sys
import threading
import time

import optuna
import psutil
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
    study.set_user_attr(lease.ATTRIBUTE, lease._claim("theirs") | changed)


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


def test_an_owner_that_was_killed_and_is_a_zombie_is_replaced_at_once(study):
    born = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        held_by(study, pid=born.pid, born=psutil.Process(born.pid).create_time())
        with pytest.raises(StudyBusy, match=f"run by process {born.pid} on "), lease.leased(study, print):
            pass
    finally:
        born.kill()
    assert eventually(lambda: psutil.Process(born.pid).status() == psutil.STATUS_ZOMBIE)
    said = []
    with lease.leased(study, said.append):
        pass
    assert f"taken over from process {born.pid} on" in said[0]
    born.wait()


@pytest.mark.parametrize("skew", [-45, 45])
def test_an_owner_on_another_machine_lives_as_long_as_it_is_seen_to_renew_whatever_the_clocks_say(
    study, monkeypatch, skew
):
    monkeypatch.setattr(lease, "EXPIRES", 1.0)
    monkeypatch.setattr(lease, "LOOK", 0.05)
    elsewhere = {"host": "elsewhere", "pid": 7}
    held_by(study, **elsewhere, beat=time.time() + skew)
    ended = threading.Event()

    def beats():
        while not ended.wait(0.2):
            held_by(study, **elsewhere, beat=time.time() + skew)

    owner = threading.Thread(target=beats)
    owner.start()
    try:
        with (
            pytest.raises(StudyBusy, match="run by process 7 on elsewhere, which lives"),
            lease.leased(study, lambda line: None),
        ):
            pass
    finally:
        ended.set()
        owner.join()
    said = []
    with lease.leased(study, said.append):
        pass
    assert "without a sign of life" in said[0]
    assert "taken over from process 7 on elsewhere" in said[1]


def test_what_another_machine_gives_back_while_it_is_watched_is_free(study, monkeypatch):
    monkeypatch.setattr(lease, "LOOK", 0.05)
    held_by(study, host="elsewhere", pid=7)
    timer = threading.Timer(0.2, study.set_user_attr, (lease.ATTRIBUTE, {}))
    timer.start()
    said = []
    with lease.leased(study, said.append):
        pass
    timer.join()
    assert len(said) == 1


def test_an_owner_renews_its_lease_and_notices_when_it_was_taken_over(study, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with lease.leased(study, lambda line: None) as mine:
        first = study.user_attrs[lease.ATTRIBUTE]["beat"]
        assert eventually(lambda: study.user_attrs[lease.ATTRIBUTE]["beat"] > first)
        assert not mine.lost
        held_by(study, token="another's")
        assert eventually(lambda: mine.lost)
    assert study.user_attrs[lease.ATTRIBUTE]["token"] == "another's", "what is another's is not released"


@pytest.mark.parametrize("before", ["nobody yet", "nobody", "a dead process"])
def test_of_many_that_claim_a_study_at_the_same_moment_one_goes_on(study, before):
    if before == "nobody":
        study.set_user_attr(lease.ATTRIBUTE, {})
    if before == "a dead process":
        held_by(study, born=1.0)
    together, ended = threading.Barrier(8), threading.Barrier(8)
    won = []

    def claim():
        mine = optuna.load_study(study_name="s", storage=engine.storage(study._storage._backend.url))
        together.wait()
        try:
            with lease.leased(mine, lambda line: None) as held:
                won.append(held)
                ended.wait()
        except StudyBusy:
            ended.wait()

    claimants = [threading.Thread(target=claim) for _ in range(8)]
    for each in claimants:
        each.start()
    for each in claimants:
        each.join()
    assert len(won) == 1


def test_what_was_claimed_between_a_look_and_a_claim_is_not_taken(study, monkeypatch):
    look = lease.claims.read

    def overtaken(study, key):
        found = look(study, key)
        monkeypatch.setattr(lease.claims, "read", look)
        held_by(study, host="elsewhere", pid=9)
        return found

    monkeypatch.setattr(lease.claims, "read", overtaken)
    with pytest.raises(StudyBusy, match="taken by process 9 on elsewhere at the same moment"):
        lease.leased(study, print).__enter__()
    assert study.user_attrs[lease.ATTRIBUTE]["token"] == "theirs"


def eventually(condition):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
