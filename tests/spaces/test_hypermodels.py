"""A KerasTuner model as a space: what it draws is drawn here, as KerasTuner has it, and what it builds is known."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import Defaults, HyperParameters, Parameter, RandomDraws, Replay, declared, find, name_of
from spaces._hp import narrow
from spaces.datasets import describe
from spaces.errors import BrokenSpace, BuildFailed, SpaceError, UnknownDataset, UnknownSpace
from spaces.hypermodels import draws, explore, noted
from spaces.hypermodels.draws import Built, parameter_of
from spaces.hypermodels.reference import parse

STRANGERS = Path(__file__).parents[1] / "strangers.py"


@pytest.fixture(scope="module")
def keras() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
        import keras_tuner  # noqa: F401
    return keras


@pytest.fixture(scope="module")
def workshop(keras: Any) -> Callable[[str], Any]:
    """What the helper process has, by the name of a stranger's model, in this process."""
    from spaces.hypermodels.builder import Workshop

    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        reference = parse(f"{STRANGERS}:{name}")
        assert reference is not None
        return made.setdefault(name, Workshop(reference))

    return get


class Drawing:
    """Answers what a build asks for from `hp`, as the asking side of the pipe does."""

    def __init__(self, hp: HyperParameters) -> None:
        self.hp, self._value = hp, None

    def say(self, answer: dict[str, Any]) -> None:
        for each in answer["idle"]:
            self.hp.meet(parameter_of(each), active=False)
        self._value = self.hp.meet(parameter_of(answer["draw"]), active=True)

    def hear(self) -> dict[str, Any]:
        return {"value": self._value}


def build(workshop: Any, name: str, hp: HyperParameters | None = None) -> tuple[HyperParameters, dict[str, Any]]:
    hp = hp if hp is not None else Defaults()
    answer = workshop(name).build(describe("digits"), Drawing(hp))
    for each in answer["idle"]:
        hp.meet(parameter_of(each), active=False)
    return hp, answer


# ---- references


def test_a_model_is_named_by_module_or_file_and_its_space_after_it() -> None:
    assert name_of("keras_tuner.applications:HyperResNet") == "HyperResNet"
    assert name_of("./my_model.py:MyHyperModel") == "MyHyperModel"
    assert name_of("./my_model.py:build") == "my_model.build"
    assert name_of("pets.models:make.cat") == "models.cat"
    assert name_of("cnn_digits") == "cnn_digits"
    assert name_of("./mine.py") == "mine"
    assert str(parse("./my_model.py:build")) == f"{Path('my_model.py').resolve()}:build"
    for text in ("cnn_digits", "mine.py", "a:b c", "path:photos/x", "my model:build", "mine.py:", ":build"):
        assert parse(text) is None


def test_one_without_images_or_whose_file_is_not_there_is_said_before_anything_is_started() -> None:
    with pytest.raises(UnknownDataset, match="HyperResNet brings no images: .* --dataset cifar10"):
        find("keras_tuner.applications:HyperResNet")
    with pytest.raises(UnknownSpace, match="no file .*none.py"):
        find("./none.py:build", "digits")
    with pytest.raises(UnknownSpace, match="A KerasTuner model is named keras_tuner.applications:HyperResNet"):
        find("keras_tuner.applications.HyperResNet")
    with pytest.raises(UnknownDataset, match="Did you mean 'digits'"):
        find(f"{STRANGERS}:loop", "digitz")


# ---- loading


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("lop", UnknownSpace, "there is no 'lop' in it. Did you mean 'loop'?"),
        ("CONSTANT", BrokenSpace, "it is of type int, neither a HyperModel nor a function build"),
        ("MyTuner", BrokenSpace, "it is the class MyTuner, neither a HyperModel nor a function build"),
        ("Needy", BrokenSpace, r"Needy\(width\) needs width, which nobody knows here \(known: input_shape, classes"),
        ("Failing", BrokenSpace, r"strangers.py:\d+: Failing\(\) failed: RuntimeError: no constructor"),
    ],
)
def test_what_is_no_model_is_said_in_one_line(keras: Any, name: str, kind: type[Exception], says: str) -> None:
    from spaces.hypermodels import stranger

    reference = parse(f"{STRANGERS}:{name}")
    assert reference is not None
    with pytest.raises(kind, match=says) as raised:
        stranger.load(reference, describe("digits"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("x = 1\ndef build(hp:\n    pass\n", 2, "SyntaxError"),
        ("x = 1\n\nimport no_such_module\n", 3, "No module named"),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "division by zero"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(
    keras: Any, tmp_path: Path, text: str, line: int, says: str
) -> None:
    from spaces.hypermodels import stranger

    broken = tmp_path / "broken.py"
    broken.write_text(text)
    reference = parse(f"{broken}:build")
    assert reference is not None
    with pytest.raises(BrokenSpace, match=says) as raised:
        stranger.load(reference, describe("digits"))
    assert f"broken.py:{line}: importing it failed" in str(raised.value)


def test_a_module_that_is_not_there_is_told_from_one_that_lacks_something(keras: Any) -> None:
    from spaces.hypermodels import stranger

    reference = parse("no_such_package.models:Net")
    assert reference is not None
    with pytest.raises(UnknownSpace, match="there is no module 'no_such_package' here"):
        stranger.load(reference, describe("digits"))


def test_a_class_is_made_for_the_images_an_instance_is_taken_as_it_is(workshop: Any) -> None:
    for name in ("Trained", "made"):
        hp, answer = build(workshop, name)
        assert answer["built"]["params"] == (64 + 1) * 8 + (8 + 1) * 10
        assert hp.values == {"units": 8, "optimizer": "adam", "batch_size": 48, "epochs": 4}


# ---- what is built, and what is wrong with it


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("loop", {"labels": "one-hot", "accuracy": "accuracy", "batch_size": 32, "epochs": None, "remarks": []}),
        ("plain_if", {"labels": "sparse", "loss": "sparse_categorical_crossentropy"}),
        ("no_accuracy", {"labels": "one-hot", "accuracy": ""}),
        ("averaged", {"accuracy": "acc", "optimizer": "Adam"}),
        ("own_step", {"labels": "one-hot", "accuracy": "accuracy"}),
        ("Trained", {"labels": "sparse", "accuracy": "right", "batch_size": 48, "epochs": 4}),
        ("Compiling", {"batch_size": 16, "epochs": None, "loss": "categorical_crossentropy"}),
    ],
)
def test_it_is_known_how_a_model_is_trained(workshop: Any, name: str, said: dict[str, Any]) -> None:
    _, answer = build(workshop, name)
    assert {key: answer["built"][key] if key != "remarks" else list(answer["built"][key]) for key in said} == said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Trained", "left out: its ModelCheckpoint; the study keeps weights and figures itself"),
        ("Trained", "its outputs are logits"),
        ("WithOwnCallback", "no checkpoint keeps the state of its Told: an interrupted trial begins again"),
        ("Cropped", "its fit() changes the images before training"),
        ("Scored", "what its fit() does after training, and returns, is left out"),
    ],
)
def test_what_of_a_fit_is_not_done_is_said(workshop: Any, name: str, says: str) -> None:
    assert any(says in remark for remark in build(workshop, name)[1]["built"]["remarks"])


@pytest.mark.parametrize(
    ("name", "function", "says"),
    [
        ("OwnLoop", "fit", "its fit() never calls model.fit()"),
        ("Twice", "fit", "its fit() calls model.fit() 2 times"),
        ("Streamed", "fit", "its fit() hands model.fit a generator"),
        ("not_compiled", "build", "ValueError: its model is not compiled"),
        ("no_model", "build", "TypeError: it returned 'a model', not a Keras model"),
        ("other_classes", "build", "its model gives (7,) for each image; it must give a number for each of the 10"),
        ("other_images", "build", "its model takes (28, 28, 1), the images of digits are (8, 8, 1)"),
    ],
)
def test_what_cannot_be_trained_so_is_said_in_one_line(workshop: Any, name: str, function: str, says: str) -> None:
    _, answer = build(workshop, name)
    assert says in answer["error"]
    assert "\n" not in answer["error"]
    assert answer["function"] == function


def test_a_model_that_fails_on_a_configuration_says_where_and_whether_it_is_to_end_the_search(workshop: Any) -> None:
    hp, answer = build(workshop, "too_large", Defaults(forced={"units": 32}))
    assert hp.values == {"units": 32}
    assert answer["error"] == "ValueError: too large: 2410 parameters"
    assert STRANGERS.read_text().splitlines()[answer["line"] - 1].strip().startswith("raise ValueError")
    assert not answer["fatal"]
    assert build(workshop, "ending", Defaults(forced={"units": 32}))[1]["fatal"]


# ---- drawing, as KerasTuner has it


def test_each_kind_of_hyperparameter_is_drawn_as_kerastuner_has_it(workshop: Any) -> None:
    hp, _ = build(workshop, "every_kind")
    found = hp.declared
    assert found["doubled"].grid() == (2, 4, 8, 16, 32)
    assert found["halved"].grid() == (3, 19, 27, 31, 33)
    assert (found["late"].low, found["late"].high, found["late"].sampling) == (1, 100, "reverse_log")
    assert found["tenth"].grid() == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert found["power"].grid() == (0.001, 0.01, 0.1, 1.0, 10.0)
    assert found["fixed"].choices == ("as it is",)
    assert found["switch"].choices == (1, 0), "KerasTuner makes whole numbers of booleans"
    assert found["inner/deep"].conditions == (("inner/on", (True,)),)
    assert hp.values["inner/deep"] == 3
    off, _ = build(workshop, "every_kind", Defaults(forced={"inner/on": False}))
    assert "inner/deep" not in off.values
    assert "inner/deep" in off.declared


def test_one_name_under_two_conditions_is_two_hyperparameters(workshop: Any) -> None:
    for kind, units in (("small", 4), ("large", 16)):
        hp, _ = build(workshop, "one_name_twice", Defaults(forced={"kind": kind}))
        assert hp.values == {"kind": kind, "units": units}
        assert hp.declared["units"].choices == (units, units * 2)


@pytest.mark.parametrize("name", ["loop", "plain_if", "Trained", "one_name_twice"])
def test_kerastuner_builds_the_same_model_from_the_values_that_were_drawn(keras: Any, workshop: Any, name: str) -> None:
    import keras_tuner

    from spaces.hypermodels import stranger

    reference, data = parse(f"{STRANGERS}:{name}"), describe("digits")
    assert reference is not None
    hypermodel, _ = stranger.load(reference, data)
    for seed in range(3):
        hp, answer = build(workshop, name, RandomDraws(seed))
        theirs = keras_tuner.HyperParameters()
        theirs.values = dict(hp.values)
        model = hypermodel.build(theirs)
        if not model.built:
            model.build((None, *data.input_shape))
        assert theirs.values == hp.values, "it draws nothing more"
        assert model.count_params() == answer["built"]["params"]


NAMES = "abcdef"
SAMPLINGS = st.sampled_from(["linear", "log", "reverse_log"])


@st.composite
def numbers(draw: Any) -> tuple[str, dict[str, Any]]:
    """hp.Int or hp.Float, of any step and spacing."""
    sampling = draw(SAMPLINGS)
    if draw(st.booleans()):
        low = draw(st.integers(1 if sampling != "linear" else -20, 20))
        high = low + draw(st.integers(0, 60))
        step = draw(st.none() | st.integers(1 if sampling == "linear" else 2, 7))
        return "Int", {"min_value": low, "max_value": high, "step": step, "sampling": sampling}
    base = draw(st.floats(0.001, 10))
    high_ = base * draw(st.floats(1, 1000))
    step_ = draw(st.none() | st.floats(1.1, 10) if sampling != "linear" else st.none() | st.floats(0.01, 3))
    return "Float", {"min_value": base, "max_value": high_, "step": step_, "sampling": sampling}


@st.composite
def choices(draw: Any) -> tuple[str, dict[str, Any]]:
    """hp.Choice, Boolean or Fixed."""
    kind = draw(st.sampled_from(["Choice", "Boolean", "Fixed"]))
    if kind == "Boolean":
        return kind, {"default": draw(st.booleans())}
    values = draw(
        st.sampled_from([["x", "y", "z"], [1, 2, 5], [0.5, 0.1], [True, False]]).map(list)
        | st.lists(st.integers(-9, 9), min_size=1, max_size=4, unique=True)
    )
    return (kind, {"value": values[0]}) if kind == "Fixed" else (kind, {"values": values})


@st.composite
def programs(draw: Any, depth: int = 0, above: tuple[str, ...] = ()) -> list[Any]:
    """What a build() may draw: hyperparameters, conditional scopes and plain Python ifs, in each other."""
    found: list[Any] = []
    here: list[tuple[str, dict[str, Any]]] = []
    for _ in range(draw(st.integers(1, 4))):
        what = draw(
            st.sampled_from(["number", "choice"] if depth > 2 or not here else ["number", "choice", "scope", "if"])
        )
        if what in ("number", "choice"):
            name = draw(st.sampled_from([n for n in NAMES if n not in above]))
            kind, arguments = draw(numbers() if what == "number" else choices())
            found.append(("draw", kind, name, arguments))
            options = arguments.get("values") or ([True, False] if kind == "Boolean" else None)
            if options:
                here.append((name, {"values": options}))
        elif here:
            name, of = draw(st.sampled_from(here))
            values = draw(st.lists(st.sampled_from(of["values"]), min_size=1, max_size=2))
            found.append((what, name, values, draw(programs(depth + 1, (*above, name)))))
    return found


def run(program: list[Any], hp: Any) -> list[Any]:
    """What the program is given, value by value."""
    given: list[Any] = []
    for what, *rest in program:
        if what == "draw":
            kind, name, arguments = rest
            given.append(getattr(hp, kind)(name, **arguments))
        elif what == "scope":
            name, values, inside = rest
            with hp.conditional_scope(name, values):
                given += run(inside, hp)
        else:
            name, values, inside = rest
            if name in hp and hp.get(name) in values:
                given += run(inside, hp)
    return given


def accepts(theirs: Any, value: Any) -> bool:
    """Whether a value is one of KerasTuner's hyperparameter."""
    if type(theirs).__name__ in ("Int", "Float"):
        inside = theirs.min_value <= value <= theirs.max_value and isinstance(value, (int, float))
        known = [*theirs.values, theirs.max_value] if theirs.step is not None else [value]
        return inside and any(math.isclose(value, each, rel_tol=1e-9, abs_tol=1e-9) for each in known)
    return any(value == each and type(value) is type(each) for each in theirs.values)


@settings(max_examples=200, deadline=None)
@given(program=programs(), seed=st.integers(0, 9), by=st.sampled_from(["random", "defaults", "optuna"]))
def test_what_is_drawn_is_what_kerastuner_would_accept_and_gives_the_same_again(
    keras: Any, program: list[Any], seed: int, by: str
) -> None:
    import keras_tuner
    import optuna

    from search.engines.optuna import OptunaDraws
    from spaces.hypermodels import builder, making

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    ours: HyperParameters = {
        "random": lambda: RandomDraws(seed),
        "defaults": Defaults,
        "optuna": lambda: OptunaDraws(study.ask(), {}),
    }[by]()
    met = []

    def ask(hyperparameter: Any, active: bool) -> Any:
        value = ours.meet(parameter_of(builder._plain(hyperparameter)), active=active)
        if active:
            met.append((hyperparameter, value))
        return value

    given = run(program, making.hyperparameters(ask))
    for hyperparameter, value in met:
        assert accepts(hyperparameter, value), (hyperparameter, value)
    again = keras_tuner.HyperParameters()
    again.values = dict(ours.values)
    assert run(program, again) == given
    assert again.values == ours.values, "nothing more is drawn"
    assert run(program, making.replayed(ours.values)) == given


@given(values=st.dictionaries(st.sampled_from(NAMES), st.integers() | st.floats(allow_nan=False) | st.booleans()))
def test_steps_are_remembered_by_the_values_before_them_and_survive_being_noted(values: dict[str, Any]) -> None:
    known, drawn = draws.Known(), list(values.items())
    built = Built(1, 2, 3, "one-hot", "loss", "accuracy", "Adam", 32, None, ("a remark",))
    known.note(drawn[:-1], draws.Step(parameter=Parameter("a", "int", 1, 3, default=1, conditions=(("b", (True,)),))))
    known.note(drawn, draws.Step(built=built))
    known.note([*drawn, ("z", 1)], draws.Step(error="gone"))
    again = draws.Known.from_json(draws.Known.from_json(known.to_json()).to_json())
    assert again.after(drawn) == known.after(drawn)
    assert again.after(drawn[:-1]) == known.after(drawn[:-1])
    assert again.after([*drawn, ("z", 1)]) is None, "what failed may work again"


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("loop", {"layers", "units_0", "units_1", "units_2", "activation", "dropout", "rate", "learning_rate"}),
        ("plain_if", {"kind", "mlp_layers", "units_0", "units_1", "cnn_layers", "filters_0", "filters_1"}),
        ("Trained", {"units", "optimizer", "batch_size", "epochs"}),
    ],
)
def test_all_that_can_be_drawn_is_found_behind_scopes_loops_and_ifs(workshop: Any, name: str, names: set[str]) -> None:
    def sample(hp: HyperParameters) -> None:
        if "error" in build(workshop, name, hp)[1]:
            raise SpaceError

    found = explore.explored(sample, {})
    assert set(found) == names
    if name == "plain_if":
        assert set(explore.explored(sample, {"kind": "mlp"})) == {"kind", "mlp_layers", "units_0", "units_1"}


# ---- the space, whose networks are built in a process of its own

LOOK = """
import sys
from spaces import RandomDraws, declared, find
space = find(sys.argv[1], "digits")
config = space.sample(RandomDraws(3))
print(sorted(declared(space)), space.metric, space.epochs, config, space.params(config, None))
assert not {"keras", "keras_tuner", "tensorflow"} & set(sys.modules)
asked = space.params.__closure__[0].cell_contents
print("processes", int(asked.helper.process is not None))
"""


def look(reference: str, cache: Path) -> list[str]:
    env = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", LOOK, reference], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_space_draws_here_builds_elsewhere_and_remembers_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(STRANGERS.read_text())
    first, second = (look(f"{mine}:one_name_twice", tmp_path / "cache") for _ in range(2))
    assert first[0] == second[0]
    assert "['kind', 'units', 'units#16,32'] val_accuracy 20" in first[0]
    assert (first[1], second[1]) == ("processes 1", "processes 0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert noted.recall(f"{mine}:one_name_twice", describe("digits")) is not None
    mine.write_text(STRANGERS.read_text() + "\n")
    assert noted.recall(f"{mine}:one_name_twice", describe("digits")) is None


@pytest.mark.long
def test_a_space_is_drawn_by_optuna_narrowed_and_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    from search.engines import optuna as engine

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    space = find(f"{STRANGERS}:one_name_twice", "digits")
    for sampler in ("tpe", "random", "qmc"):
        study, seen = optuna.create_study(direction="maximize"), set()
        for number in range(4):  # all there are
            said = engine.propose(study, space, {}, sampler=sampler, seed=1, refuse=lambda config: None)
            assert space.sample(Replay(said.config)) == said.config
            seen |= set(said.params)
            engine.accept(study, said, {"seed": number})
        assert seen == {"kind", "units", "units#16,32"}
    assert declared(space, {"kind": "small"})["kind"] == narrow(declared(space)["kind"], "small")
    with pytest.raises(BuildFailed, match="too large") as raised:
        find(f"{STRANGERS}:too_large", "digits").sample(Defaults(forced={"units": 32}))
    assert raised.value.line > 1


@pytest.mark.long
def test_a_model_that_draws_by_chance_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = STRANGERS.read_text() + (
        "\n\nimport itertools\n\nCOUNT = itertools.count()\n\n\n"
        'def by_chance(hp):\n    hp.Choice("a", [1, 2])\n    hp.Choice(f"b{next(COUNT)}", [1, 2])\n'
        "    return compiled(dense(8))\n"
    )
    (tmp_path / "chance.py").write_text(text)
    with pytest.raises(SpaceError, match="what is drawn must depend on nothing but the values drawn before"):
        space = find(f"{tmp_path / 'chance.py'}:by_chance", "digits")
        space.sample(Defaults(forced={"a": 2}))
        space.params({"a": 1, "b0": 2}, describe("digits"))
