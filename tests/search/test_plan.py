"""A request becomes a plan, or every one of its problems."""

import json

import pytest

from search.errors import InputError
from search.executors.devices import Gpu, share
from search.plan import Request, check_identity, make, resume
from search.settings import resolve


@pytest.fixture
def settings(tmp_path):
    return resolve(home=str(tmp_path / "home"), environment={})


@pytest.fixture
def one_gpu(monkeypatch):
    monkeypatch.setattr("search.plan.gpus", lambda: (Gpu(0, "Test GPU", 81920, 9.0),))


def plan(settings, space="densenet_cifar10", **asked):
    return make(Request(space=space, **asked), settings)


def test_without_a_gpu_the_search_is_cut_and_says_exactly_what(settings):
    made = plan(settings, gpus="none")
    assert made.train_limit and made.validation_limit
    text = "\n".join(made.cuts)
    for word in ("training images", "validation images", "epochs a trial", "trials", "growth_rate", "layers_per_block"):
        assert word in text
    assert made.baselines == ("tiny",)
    assert any("small is left out: it takes 35 epochs" in line for line in made.left_out)


def test_full_turns_the_cut_off(settings):
    made = plan(settings, gpus="none", full=True)
    assert (made.train_limit, made.validation_limit, made.cuts, made.narrowings) == (None, None, (), {})
    assert made.baselines == ("tiny", "small", "large")


def test_a_flag_by_hand_overrides_only_what_it_names(settings):
    cut = plan(settings, gpus="none")
    made = plan(settings, gpus="none", epochs="5", narrow=("growth_rate=20..30",))
    assert made.epochs == 5
    assert made.narrowings == cut.narrowings | {"growth_rate": "20..30"}
    assert (made.train_limit, made.trials) == (cut.train_limit, cut.trials)
    assert not any(line.startswith(("epochs", "growth_rate")) for line in made.cuts)


def test_with_a_gpu_it_is_the_full_task_in_half_precision(settings, one_gpu):
    made = plan(settings)
    assert (made.cuts, made.train_limit, made.epochs) == ((), None, 100)
    assert made.precision == "mixed_bfloat16"
    assert [slot.gpu for slot in made.slots] == [0]
    assert made.baselines == ("tiny", "small", "large")


def test_baselines_outside_a_narrowed_range_or_budget_are_left_out_with_the_reason(settings, one_gpu):
    made = plan(settings, narrow=("growth_rate=20..40",), max_params="1000000")
    assert made.baselines == ("small",)
    text = "\n".join(made.left_out)
    assert "tiny is left out: growth_rate=12" in text
    assert "large is left out: it has 3,557,690 parameters" in text


def test_baselines_only_is_as_many_trials_as_baselines_none_of_them_pruned(settings):
    made = plan(settings, "cnn_mnist", gpus="none", baselines_only=True)
    assert made.baselines == tuple(f"network_{i}" for i in range(1, 6))
    assert (made.trials, made.epochs, made.pruner, made.train_limit) == (5, 5, "none", 6000)
    assert not any("trials" in line for line in made.cuts)
    whole = plan(settings, "cnn_mnist", gpus="none", baselines_only=True, full=True, pruner="asha")
    assert (whole.train_limit, whole.pruner) == (None, "asha")


def test_baselines_only_says_why_there_is_none_and_takes_no_total(settings):
    with pytest.raises(InputError) as raised:
        plan(settings, "cnn_mnist", baselines_only=True, narrow=("kernel_1=5",))
    assert raised.value.problems[0] == "--baselines-only: no baseline fits what was asked for"
    assert len(raised.value.problems) == 6
    with pytest.raises(InputError, match="--baselines-only --trials 3: there are as many trials as baselines"):
        plan(settings, "cnn_mnist", baselines_only=True, trials="3")


def test_a_space_may_take_a_part_of_its_dataset_even_in_full(settings):
    made = plan(settings, "cnn_lab_cifar10", gpus="none", full=True)
    assert (made.train_limit, made.validation_limit, made.cuts) == (7_500, 2_500, ())
    assert plan(settings, "cnn_lab_cifar10", gpus="none", train_images="all").train_limit is None
    cut = plan(settings, "cnn_lab_cifar10", gpus="none")
    assert cut.cuts == ("epochs a trial 70 -> 20", "trials 40 -> 10")


def test_every_problem_is_named_at_once(settings):
    with pytest.raises(InputError) as raised:
        plan(
            settings,
            gpus="7",
            trials="0",
            epochs="x",
            sampler="tpee",
            pruner="no",
            seed="-1",
            backend="torch",
            max_params="none",
            keep="-2",
            timeout="soon",
            study="a/b",
            narrow=("growth_rate=abc", "layers_per_block=1..99", "widht=3", "nonsense", "optimizer=adam,lion"),
        )
    said = "\n".join(raised.value.problems)
    for piece in (
        "--gpus 7: no GPU 7",
        "--trials 0",
        "--epochs x",
        "--sampler tpee: unknown",
        "Did you mean 'tpe'",
        "--pruner no",
        "--seed -1",
        "--backend torch",
        "--max-params none",
        "--keep -2",
        "--timeout soon",
        "--study a/b",
        "growth_rate=abc: not a whole number",
        "layers_per_block=1: outside 2..16",
        "widht=3: space densenet_cifar10 has no",
        "nonsense: not key=value",
        "optimizer=lion: not one of adam",
    ):
        assert piece in said, piece


@pytest.mark.parametrize(
    ("flag", "value"), [("trials", "10000000000000000000000"), ("trials", "1000001"), ("trial_memory", "1")]
)
def test_what_no_machine_can_do_is_refused(settings, flag, value):
    named = f"--{flag.replace('_', '-')} {value}: give "
    with pytest.raises(InputError, match=named):
        plan(settings, **{flag: value})
    stored = json.loads(json.dumps(plan(settings, trials="1000000", trial_memory="100").to_json()))
    with pytest.raises(InputError, match=named):
        resume(stored, Request(space=stored["space"], **{flag: value}))


def test_a_new_study_is_named_after_its_space_and_the_date(settings):
    import re

    assert re.fullmatch(r"cnn_digits-\d{8}-\d{6}", plan(settings, "cnn_digits").study)


def test_a_subset_must_be_there_to_be_taken(settings):
    with pytest.raises(InputError, match="--train-images 60000: cifar10 has 45000"):
        plan(settings, train_images="60000")
    with pytest.raises(InputError, match="--validation-images 5: cifar10 has 5000; give 10"):
        plan(settings, validation_images="5")


def test_what_makes_a_study_cannot_change_when_it_goes_on(settings):
    first = plan(settings, "cnn_digits", study="s")
    stored = first.to_json() | {"narrowings": {}}
    check_identity(plan(settings, "cnn_digits", study="s", trials="99", slots="1"), stored)
    with pytest.raises(InputError, match="was made with epochs=8, not 3"):
        check_identity(plan(settings, "cnn_digits", study="s", epochs="3"), stored)


def test_resume_takes_a_new_total_and_slots_and_keeps_the_rest(settings):
    import json

    first = plan(settings, study="s", slots="2", narrow=("growth_rate=9",))
    stored = json.loads(json.dumps(first.to_json()))
    again = resume(stored, Request(space=first.space, trials="50", slots="1"))
    assert (again.trials, len(again.slots)) == (50, 1)
    assert again.identity() == first.identity()
    with pytest.raises(InputError, match="--trials 0"):
        resume(stored, Request(space=first.space, trials="0"))


@pytest.mark.parametrize(("count", "cores"), [(1, 2), (2, 2), (3, 8), (4, 3), (5, 16)])
def test_cores_are_divided_fairly_between_slots(count, cores):
    slots = share(count, (), tuple(range(cores)))
    sizes = [len(slot.cores) for slot in slots]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert {core for slot in slots for core in slot.cores} == set(range(cores))


def test_slots_take_gpus_in_turn():
    assert [slot.gpu for slot in share(4, (0, 1), tuple(range(8)))] == [0, 1, 0, 1]
