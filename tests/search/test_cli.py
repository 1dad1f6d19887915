"""Bad input: every problem at once, one line each, exit code 2, no traceback."""

import json
import sqlite3

import pytest

from spaces import find


def refused(done, *pieces):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for piece in pieces:
        assert piece in done.stderr, done.stderr
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())


def test_an_unknown_space_is_answered_with_the_nearest_name(cli):
    refused(cli("run", "densnet_cifar10"), "unknown space 'densnet_cifar10'. Did you mean 'densenet_cifar10'?")


def test_all_problems_of_a_request_are_named_together(cli, home):
    done = cli(
        "run",
        "densenet_cifar10",
        "growth_rate=abc",
        "dropout=0.9",
        "--trials",
        "0",
        "--gpus",
        "5",
        "--sampler",
        "magic",
        "--tracking-uri",
        "http://127.0.0.1:9",
        "--storage",
        "nonsense",
    )
    refused(
        done,
        "growth_rate=abc",
        "dropout=0.9: outside 0..0.5",
        "--trials 0",
        "no GPU 5 on this machine",
        "--sampler magic: unknown",
        "http://127.0.0.1:9",
        "--storage nonsense: not an address",
    )
    assert len(done.stderr.splitlines()) == 7
    assert not home.exists(), "nothing was touched"


def test_a_home_that_cannot_be_written_is_named(cli, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    refused(cli("run", "cnn_digits", "--home", str(tmp_path / "file" / "home")), "cannot be written", "--home")


@pytest.mark.parametrize(("name", "character"), [("q?a", "'?'"), ("p%41", "'%41'")])
def test_a_home_whose_databases_would_be_looked_for_elsewhere_is_refused(cli, tmp_path, name, character):
    refused(cli("list", "--home", str(tmp_path / name)), f"{name}: a database's address cannot hold {character}")
    own = ("--storage", f"sqlite:///{tmp_path}/study.db", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    refused(cli("status", "--home", str(tmp_path / name), *own), "no study yet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "a%b c", "a#b", "ä+b&c=d;e:f@g"])
def test_a_home_with_any_other_character_holds_its_own_databases(tmp_path, name):
    from sqlalchemy.engine import make_url

    from search.settings import resolve
    from tracking.probe import sqlite_path

    settings = resolve(home=str(tmp_path / name), environment={})
    assert make_url(settings.storage).database == str(tmp_path / name / "study.db")
    assert sqlite_path(settings.tracking_uri) == tmp_path / name / "mlflow.db"


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be read", None])
def test_a_store_that_is_not_a_study_store_is_named(cli, tmp_path, content):
    path = tmp_path / "some.db"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("create table other (x)")
    else:
        path.write_bytes(content)
    done = cli("run", "cnn_digits", "--storage", f"sqlite:///{path}")
    refused(done, f"--storage sqlite:///{path}")


def test_an_error_in_a_space_file_is_named_with_file_and_line(cli, tmp_path):
    text = find("cnn_digits").path.read_text()
    (tmp_path / "broken.py").write_text(text.replace("SPACE = Space(", "SPACE = Space(("))
    refused(cli("run", "broken.py"), "broken.py:", "SyntaxError")
    (tmp_path / "late.py").write_text(text.replace('hp.Int("conv_layers", 1, 2)', 'hp.Int("conv_layers", 1, 2 / 0)'))
    line = text.splitlines().index('    hp.Int("conv_layers", 1, 2)') + 1
    refused(cli("run", "late.py"), f"late.py:{line}: sample() failed: ZeroDivisionError")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    return dict(hp.values)\n", "    return None\n", "sample() failed"),
        ('"cnn"),', '"cnn") | {"params": lambda c, d: "many"},', "params() failed"),
        ("recipe=recipe", "recipe=lambda c: None", "recipe() failed"),
        ("epochs=8,\n    trials=12", "epochs=0,\n    trials=12", "epochs=0"),
        ('columns=("conv_layers"', 'columns=("colour"', "columns name colour"),
        ("config={\n", 'config={"colour": 1,\n', "baseline plain names colour"),
        ('hp.Int("conv_layers", 1, 2)', 'hp.Choice("conv_layers", [(1, 1)])', "holds more than numbers"),
        ('"""\n\nfrom __future__', '"""\nraise SystemExit(3)\nfrom __future__', "SyntaxError"),
        ("def recipe", "raise SystemExit(3)\n\ndef recipe", "SystemExit"),
    ],
)
def test_a_space_that_is_wrong_is_refused_before_anything_is_touched(cli, tmp_path, home, old, new, says):
    text = find("cnn_digits").path.read_text()
    assert old in text
    (tmp_path / "wrong.py").write_text(text.replace(old, new, 1))
    refused(cli("run", "wrong.py"), "wrong.py:", says)
    assert not home.exists()


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--storage", "sqlite://"),
        ("--storage", "sqlite:////no/such/folder/x.db"),
        ("--storage", "postgresql+psycopg://u:sekret@127.0.0.1:x/x"),
        ("--storage", "postgresql+psycopg://127.0.0.1:9/x?password=sekret"),
        ("--storage", "u:sekret@host"),
        ("--tracking-uri", "http://user:sekret@127.0.0.1:9"),
    ],
)
def test_an_address_that_cannot_be_used_is_named_without_its_password(cli, flag, value):
    done = cli("run", "cnn_digits", flag, value)
    refused(done)
    assert "sekret" not in done.stderr + done.stdout


def test_a_hyperparameter_narrowed_twice_is_refused(cli):
    refused(cli("run", "cnn_digits", "filters=8", "filters=16"), "narrowed twice")


def test_reading_commands_say_that_there_is_nothing_yet_and_make_nothing(cli, home):
    for command in (["list"], ["status"], ["show", "x"], ["best", "x"], ["resume", "x"], ["promote", "x"]):
        refused(cli(*command), "no study yet")
    assert not home.exists()


def test_an_unknown_command_or_flag_exits_with_2(cli):
    assert cli("rnu").returncode == 2
    assert cli("run", "cnn_digits", "--trails", "3").returncode == 2


def test_plan_writes_nothing_and_reports_as_json(cli, home):
    done = cli("plan", "densenet_cifar10", "growth_rate=35", "layers_per_block=6..12", "--json", "--full")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["narrowings"] == {"growth_rate": "35", "layers_per_block": "6..12"}
    assert made["fewest_parameters"]["parameters"] < 978_260 < made["most_parameters"]["parameters"]
    assert made["estimated_seconds"] > 0
    assert not home.exists()


def test_spaces_are_listed_as_json(cli):
    listed = {s["name"]: s for s in json.loads(cli("spaces", "--json").stdout)}
    assert listed["densenet_cifar10"]["baselines"] == ["tiny", "small", "large"]


def test_doctor_checks_this_machine_and_reports_as_json(cli):
    done = cli("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    looked_at = {c["what"] for c in report["checks"]}
    assert {"python", "tensorflow", "home", "study store", "tracking", "dataset cifar10"} <= looked_at


def test_doctor_times_a_convolution_on_what_devices_there_are(cli):
    report = json.loads(cli("doctor", "--benchmark", "--json").stdout)
    timed = {c["what"]: c for c in report["checks"] if c["what"].startswith("convolution")}
    assert list(timed) == ["convolution of 100 images", "convolution of 2 images"]
    gpus = any(c["what"].startswith("gpu ") for c in report["checks"])
    for check in timed.values():
        assert "processor" in check["found"]
        assert ("times as fast" if gpus else "no GPU to compare it with") in check["found"]
