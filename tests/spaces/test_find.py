"""Finding a space: by name, by path, and what is said where it cannot be."""

import os
from pathlib import Path

import pytest

from spaces import Defaults, find, names
from spaces.errors import BrokenSpace, UnknownSpace


def test_spaces_are_found_by_the_names_of_their_files():
    assert {"densenet_cifar10", "cnn_digits"} <= set(names())
    assert find("cnn_digits").name == "cnn_digits"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownSpace, match="Did you mean 'densenet_cifar10'"):
        find("densnet_cifar10")


def test_a_file_of_the_users_own_is_found_by_its_path(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(find("cnn_digits").path.read_text().replace('name="cnn_digits"', 'name="mine"'))
    assert find(str(mine)).name == "mine"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("x = 1\ndef sample(hp:\n    pass\n", 2, "SyntaxError"),
        ("x = 1\n\nimport no_such_module\n", 3, "No module named"),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "division by zero"),
        ("x = 1\n", 1, "no SPACE"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, line, says):
    broken = tmp_path / "broken.py"
    broken.write_text(text)
    with pytest.raises(BrokenSpace, match=says) as raised:
        find(str(broken))
    assert f"broken.py:{line}:" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_path_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(UnknownSpace, match="no space file at"):
        find(str(tmp_path / "none.py"))


def packaged(folder, points, module="pets_search", text=None):
    """A package with a space, as `pip install` would leave it."""
    folder.mkdir()
    (folder / f"{module}.py").write_text(text or find("cnn_digits").path.read_text().replace("cnn_digits", "pets"))
    (folder / "pets-1.0.dist-info").mkdir()
    (folder / "pets-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pets\nVersion: 1.0\n")
    (folder / "pets-1.0.dist-info" / "entry_points.txt").write_text(f"[keras_search.spaces]\n{points}\n")


def test_a_space_of_an_installed_package_is_found_by_its_name(tmp_path, monkeypatch, cli):
    packaged(tmp_path / "site", "pets = pets_search:SPACE\ncnn_digits = pets_search:SPACE")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert "pets" in names()
    assert find("pets").path == tmp_path / "site" / "pets_search.py"
    assert find("cnn_digits").name == "cnn_digits", "ours goes before"
    with pytest.raises(UnknownSpace, match="Did you mean 'pets'"):
        find("pest")
    there = os.pathsep.join(filter(None, (str(tmp_path / "site"), os.environ.get("PYTHONPATH"))))
    ran = cli("run", "pets", "--trials", "1", "--epochs", "1", "--study", "s", PYTHONPATH=there)
    assert ran.returncode == 0, ran.stderr
    assert "s: 1 complete" in ran.stdout


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ("pets = pets_search:NOTHING", "has no attribute 'NOTHING'"),
        ("pets = no_such_module:SPACE", "No module named 'no_such_module'"),
        ("pets = pets_search:sample", "it names no Space, but function"),
    ],
)
def test_a_package_whose_space_is_broken_is_named(tmp_path, monkeypatch, point, says):
    packaged(tmp_path / "site", point)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(BrokenSpace, match=says) as raised:
        find("pets")
    assert str(raised.value).startswith(f"entry point {point} of pets: ")
    assert "\n" not in str(raised.value)


def test_what_the_functions_of_a_users_space_print_is_not_the_commands_output(tmp_path, capsys):
    text = Path(find("cnn_digits").path).read_text()
    loud = text.replace('    """Draw one configuration."""', '    print("drawing")')
    (tmp_path / "loud.py").write_text(loud.replace('    """How a configuration is trained."""', '    print("reading")'))
    space = find(str(tmp_path / "loud.py"))
    space.recipe(space.sample(Defaults()))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "drawing\nreading\n"
