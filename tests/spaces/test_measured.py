"""A space without formulas: its networks are built and counted in a process of their own, and count as formulas do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import Defaults, RandomDraws, _helper, _measured, find
from spaces._builder import Watched
from spaces._find import line_of
from spaces._space import without_formula
from spaces.datasets import describe
from spaces.errors import BuildFailed

SPACE = '''"""A network of a user's own."""

import os
import time

from spaces import Space, read_recipe, sample_recipe


def sample(hp):
    hp.Int("blocks", 1, 6)
    hp.Choice("filters", [4, 8])
    hp.Choice("fault", "none exit kill shout no_model slow logits classes two own input".split())
    sample_recipe(hp)
    return dict(hp.values)


def build(config, data):
    import keras

    if config["fault"] == "exit":
        raise SystemExit("enough")
    if config["fault"] == "kill":
        os.kill(os.getpid(), 9)
    if config["fault"] == "shout":
        print("a line on standard output")
    if config["fault"] == "no_model":
        return "a network"
    if config["fault"] == "slow":
        time.sleep(60)
    x = image = keras.Input(data.input_shape, dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(x)
    for _ in range(config["blocks"]):
        x = keras.layers.Conv2D(config["filters"], 3, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    if config["fault"] == "own":
        class Own(keras.Model):
            def call(self, images):
                return images

        return Own()
    if config["fault"] == "logits":
        return keras.Model(image, keras.layers.Dense(data.classes)(x))
    if config["fault"] == "classes":
        return keras.Model(image, keras.layers.Dense(data.classes + 3, activation="softmax")(x))
    if config["fault"] == "two":
        return keras.Model(image, [keras.layers.Dense(data.classes, activation="softmax")(x)] * 2)
    if config["fault"] == "input":
        wide = keras.Input((32, 32, 3))
        last = keras.layers.Dense(data.classes, activation="softmax")(keras.layers.Flatten()(wide))
        return keras.Model(wide, last)
    if config.get("width", 0):
        x = keras.layers.Dense(config["width"])(x)
    return keras.Model(image, keras.layers.Dense(data.classes, activation="softmax", dtype="float32")(x))


SPACE = Space(name="mine", summary="mine", dataset="digits", sample=sample, build=build, recipe=read_recipe,
              epochs=2, trials=3)
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(SPACE)
    yield find(str(path))
    _measured._builder(str(path)).helper.close()


def config(space: Any, **said: Any) -> dict[str, Any]:
    return dict(space.sample(Defaults())) | {"blocks": 1, "filters": 4, "fault": "none"} | said


def builder(space: Any) -> _measured.Builder:
    return _measured._builder(str(space.path))


def test_the_counts_are_those_of_the_network(mine: Any) -> None:
    data, two = describe("digits"), config(mine, blocks=2, filters=8)
    assert mine.params(two, data) == (9 * 1 + 1) * 8 + (9 * 8 + 1) * 8 + (2 * 2 * 8 + 1) * 10
    assert mine.multiply_adds(two, data) == 64 * 9 * 1 * 8 + 16 * 9 * 8 * 8 + 2 * 2 * 8 * 10
    assert mine.activations(two, data) == 64 + 64 * 8 + 16 * 8 + 16 * 8 + 4 * 8 + 32 + 10


def test_they_equal_the_formulas_of_a_space_that_has_them(tmp_path: Path) -> None:
    text = Path(find("cnn_digits").path or "").read_text()
    (tmp_path / "cnn_digits.py").write_text(
        text.replace('**stack.functions(network, "cnn"),', 'build=stack.functions(network, "cnn")["build"],')
    )
    told, measured, data = find("cnn_digits"), find(str(tmp_path / "cnn_digits.py")), describe("digits")
    assert told.activations is not None
    assert measured.activations is not None
    for seed in range(8):
        drawn = told.sample(RandomDraws(seed))
        assert measured.params(drawn, data) == told.params(drawn, data)
        assert measured.multiply_adds(drawn, data) == told.multiply_adds(drawn, data)
        assert measured.activations(drawn, data) == pytest.approx(told.activations(drawn, data), rel=0.2)
    builder(measured).helper.close()


def test_a_space_with_formulas_keeps_them_and_starts_no_process() -> None:
    space = find("cnn_digits")
    assert without_formula not in (space.params, space.multiply_adds)
    before = psutil.Process().children()
    space.params(dict(space.baselines[0].config), describe("digits"))
    assert psutil.Process().children() == before


def test_what_build_did_not_look_at_needs_no_second_network(mine: Any) -> None:
    data, asked = describe("digits"), builder(mine)
    mine.params(config(mine), data)
    assert asked.helper.process is not None
    os.kill(asked.helper.process.pid, signal.SIGSTOP)  # it can answer nothing more
    try:
        assert mine.params(config(mine, optimizer="sgd", batch_size=32), data) == 10 * 4 + (4 * 4 * 4 + 1) * 10
    finally:
        os.kill(asked.helper.process.pid, signal.SIGCONT)


def test_a_name_that_build_asks_for_in_vain_needs_no_second_network_and_one_that_is_there_does(mine: Any) -> None:
    data, asked = describe("digits"), builder(mine)
    plain = mine.params(config(mine, blocks=3), data)
    assert asked.helper.process is not None
    os.kill(asked.helper.process.pid, signal.SIGSTOP)
    try:
        assert mine.params(config(mine, blocks=3, momentum=0.5), data) == plain
    finally:
        os.kill(asked.helper.process.pid, signal.SIGCONT)
    assert mine.params(config(mine, blocks=3, width=7), data) != plain


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"fault": "exit"}, "SystemExit: enough"),
        ({"fault": "kill"}, "building the network ended its process with -9"),
        ({"fault": "no_model"}, "TypeError: it returned 'a network', not a Keras model"),
        ({"blocks": 6}, "ValueError"),
        ({"fault": "logits"}, "gives no probabilities: .*end it with activation='softmax'"),
        ({"fault": "classes"}, r"gives \(13,\) for each image; it must give the probabilities of the 10 classes"),
        ({"fault": "two"}, "has 1 inputs and 2 outputs"),
        ({"fault": "own"}, "a Own whose inputs are not known"),
        ({"fault": "input"}, r"takes images of \(32, 32, 3\), those of digits are \(8, 8, 1\)"),
    ],
)
def test_a_network_that_cannot_be_built_is_the_fault_of_its_configuration(
    mine: Any, fault: dict[str, Any], words: str
) -> None:
    data = describe("digits")
    for _ in range(2):  # remembered the second time
        with pytest.raises(BuildFailed, match=words) as raised:
            mine.params(config(mine, **fault), data)
    assert "\n" not in str(raised.value)
    assert mine.params(config(mine), data) == 10 * 4 + (4 * 4 * 4 + 1) * 10, "the next one is counted"


def test_a_fault_names_the_line_of_the_file(mine: Any) -> None:
    with pytest.raises(BuildFailed) as raised:
        mine.params(config(mine, fault="exit"), describe("digits"))
    assert (
        mine.path.read_text().splitlines()[line_of(raised.value, mine.path) - 1].strip().startswith("raise SystemExit")
    )


def test_what_build_prints_is_no_answer(mine: Any) -> None:
    assert mine.params(config(mine, fault="shout"), describe("digits")) == 10 * 4 + (4 * 4 * 4 + 1) * 10


def test_a_network_that_takes_for_ever_is_given_up(mine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine.params(config(mine), describe("digits"))
    monkeypatch.setattr(_helper, "SLOW", 1.0)
    with pytest.raises(BuildFailed, match="took more than 1 s"):
        mine.params(config(mine, fault="slow"), describe("digits"))
    monkeypatch.undo()
    assert mine.params(config(mine, filters=8), describe("digits")) > 0


def test_the_process_ends_when_whoever_asked_is_killed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SPACE)
    code = """
import sys, time
from spaces import Defaults, _measured, find
from spaces.datasets import describe
space = find(sys.argv[1])
space.params(dict(space.sample(Defaults())) | {"blocks": 1}, describe("digits"))
print(_measured._builder(sys.argv[1]).helper.process.pid, flush=True)
time.sleep(60)
"""
    asking = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "mine.py")], stdout=subprocess.PIPE, text=True
    )
    assert asking.stdout is not None
    built_by = psutil.Process(int(asking.stdout.readline()))
    asking.kill()
    asking.wait()
    asking.stdout.close()
    deadline = time.monotonic() + 30
    while built_by.is_running() and built_by.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not built_by.is_running() or built_by.status() == psutil.STATUS_ZOMBIE


def named(**values: Any) -> dict[str, Any]:
    return values


LOOKS: list[Any] = [
    dict,
    list,
    repr,
    len,
    sorted,
    lambda c: {**c},
    lambda c: c | {"z": 1},
    lambda c: {"z": 1} | c,
    lambda c: c == {"a": 1},
    lambda c: c.copy(),
    lambda c: c.items(),
    lambda c: c.setdefault("a", 2),
    lambda c: c.pop("a"),
    lambda c: named(**c),
]


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_the_whole_configuration_is_never_taken_for_less(look: Any) -> None:
    watched = Watched({"a": 1, "b": 2})
    look(watched)
    assert watched.looked_at() is None


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(), min_size=1), st.data())
def test_looks_at_single_values_are_remembered(values: dict[str, int], data: st.DataObject) -> None:
    watched = Watched(values)
    names = data.draw(st.lists(st.sampled_from(sorted(values))))
    for name in names:
        assert watched[name] == values[name]
        assert watched.get(name) == values[name]
    assert watched.looked_at() == {name: values[name] for name in names}
    assert watched.absent() == []
    assert watched.get("not there") is None
    assert "nor there" not in watched
    assert watched.looked_at() == {name: values[name] for name in names}
    assert watched.absent() == ["nor there", "not there"]


def test_a_formula_that_is_there_is_used_and_only_the_other_measured(mine: Any) -> None:
    half = _measured.complete(
        replace(mine, params=lambda config, data: 7, multiply_adds=without_formula), str(mine.path)
    )
    assert half.params(config(mine), describe("digits")) == 7
    assert half.multiply_adds(config(mine), describe("digits")) == 64 * 9 * 4 + 4 * 4 * 4 * 10
