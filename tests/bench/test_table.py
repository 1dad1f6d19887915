"""Tables of recorded trainings: every point of a grid, written and read, kept through kills."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import recording, synthetic
from bench.grid import points
from bench.recording import Lines
from search.errors import InputError
from search.executors import table
from spaces import config_hash, find

DIGITS = Path(__file__).parent / "grids" / "digits.py"


@pytest.fixture(scope="module")
def space():
    return find(str(DIGITS))


def test_a_grid_has_every_point_once_and_conditional_values_only_where_they_are_active(space):
    found = list(points(space))
    assert len(found) == len({config_hash(point) for point in found}) == 12
    assert all(("momentum" in point) == (point["optimizer"] == "sgd") for point in found)


@pytest.mark.parametrize(("name", "least"), [("fashion", 1000), ("cifar", 1000)])
def test_the_grids_that_are_reported_have_at_least_a_thousand_points(name, least):
    grid = find(str(Path(recording.__file__).parent / "grids" / f"{name}.py"))
    wanted = recording.jobs(grid)
    assert len(list(points(grid))) >= least
    assert sum(seed > 0 for _, seed in wanted) >= 2 * (least // 10)


def test_a_table_is_read_as_it_was_written(space, tmp_path):
    made = synthetic.table(space)
    table.write(tmp_path / "t.json.xz", made)
    assert table.read(tmp_path / "t.json.xz") == made


@pytest.mark.parametrize("content", [None, b"", b"what?", b'{"format": 99}'])
def test_what_is_no_table_is_told_in_one_line(tmp_path, content):
    path = tmp_path / "t.json.xz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="bench.record") as caught:
        table.read(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_trial_has_the_curve_of_one_recorded_seed_by_its_own_seed(space):
    made = synthetic.table(space)
    name = next(n for n, group in made.curves.items() if len(group) == recording.SEEDS)
    assert [made.curve(name, seed).seed for seed in range(6)] == [0, 1, 2, 0, 1, 2]
    assert made.curve("unknown", 0) is None


def line(config, seed, epochs, failed=""):
    return {
        "config": config,
        "seed": seed,
        "parameters": 10,
        "metrics": {name: [0.5] * (len(epochs) - bool(failed)) for name in table.METRICS},
        "start": [0.4, 0.5],
        "epochs": epochs,
        "failed": failed,
        "split": "abc",
    }


def test_what_a_first_epoch_took_beyond_a_usual_one_is_part_of_the_start(space, tmp_path):
    lines = Lines(tmp_path / "l.jsonl")
    config = next(points(space))
    lines.add(line(config, 0, [[1.1, 2.2], [0.1, 0.2], [0.3, 0.4]]))
    curve = recording.table(space, lines).everything()[0]
    assert curve.cpu == (0.2, 0.1, 0.3)
    assert curve.start_cpu == pytest.approx(0.4 + 0.9)
    assert curve.cost() == pytest.approx(0.4 + 1.5)


def test_a_training_that_broke_off_keeps_what_it_measured_and_what_that_cost(space, tmp_path):
    lines = Lines(tmp_path / "l.jsonl")
    lines.add(line(next(points(space)), 0, [[0.1, 0.1], [0.2, 0.2]], failed="the loss of epoch 1 is nan"))
    curve = recording.table(space, lines).everything()[0]
    assert (curve.epochs, len(curve.cpu), curve.failed) == (1, 2, "the loss of epoch 1 is nan")


def test_a_line_that_a_kill_tore_is_cut_off_and_recorded_again(tmp_path):
    path = tmp_path / "l.jsonl"
    lines = Lines(path)
    lines.add({"a": 1})
    path.write_bytes(path.read_bytes() + b'{"b": ')
    again = Lines(path)
    again.add({"c": 3})
    assert [json.loads(text) for text in path.read_text().splitlines()] == [{"a": 1}, {"c": 3}]


def test_a_recording_does_not_go_on_with_another_grid(space, tmp_path):
    lines = Lines(tmp_path / "l.jsonl")
    recording.begin(lines, space, recording.jobs(space), {})
    recording.begin(lines, space, recording.jobs(space), {})
    with pytest.raises(InputError, match="epochs"):
        recording.begin(lines, replace(space, epochs=4), recording.jobs(space), {})


def test_a_recording_trains_every_point_once_before_it_repeats_any(space):
    wanted = recording.jobs(space)
    assert [seed for _, seed in wanted[:12]] == [0] * 12
    assert wanted == recording.jobs(space)
    assert wanted[:12] != [(config, 0) for config in points(space)]
