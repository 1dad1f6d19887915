"""A model is exported once what was written, loaded back, gives the original's probabilities, and not otherwise."""

import json

import numpy as np
import pytest
from support import command

from search import export


@pytest.fixture
def to(tmp_path):
    return tmp_path / "out"


def exported(registry, *arguments):
    return command(registry.home, "export", *arguments)


@pytest.mark.long
def test_keras_and_saved_model_give_the_same_and_replace_only_by_force(registry, to):
    path = to / "net.keras"
    code, out, err = exported(registry, "net@champion", "--format", "keras", "--to", str(path), "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["path"], told["written_with"]) == (str(path), "tensorflow")
    assert told["images"] == 32 + len(registry.images), "random ones and the model's own"
    assert told["difference"] <= 1e-5
    path.write_text("in the way")
    code, out, err = exported(registry, "net", "--format", "keras", "--to", str(path))
    assert (code, out) == (2, "")
    assert err == f"error: --to {path}: is there already; give another or --force to replace it\n"
    folder = to / "saved"
    for force in ([], ["--force"]):
        code, out, err = exported(registry, "net", "--format", "saved_model", "--to", str(folder), *force)
        assert (code, err) == (0, "")
        assert "loaded back, its probabilities differ from the original's by at most" in out
        assert {p.name for p in folder.iterdir()} >= {"saved_model.pb", "variables"}
    assert {p.name for p in to.iterdir()} == {"net.keras", "saved"}, "nothing left aside"


@pytest.mark.long
def test_a_model_trained_with_jax_becomes_onnx_that_takes_any_number_of_raw_images(registry, to):
    import onnxruntime

    path = to / "net.onnx"
    code, out, err = exported(registry, "jax-net", "--format", "onnx", "--to", str(path))
    assert (code, err) == (0, "")
    assert "trained with jax, written with tensorflow; the original was compared under jax" in out
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.type == "tensor(uint8)"
    for count in (1, len(registry.images)):
        (found,) = session.run(None, {given.name: registry.images[:count]})
        assert found.shape == (count, 10)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_what_is_off_is_not_kept_and_what_was_there_stays(registry, to, monkeypatch):
    to.mkdir()
    path = to / "net.keras"
    path.write_text("the one before")
    monkeypatch.setattr(export, "MOST", -1.0)  # nothing is that near
    code, out, err = exported(registry, "net", "--format", "keras", "--to", str(path), "--force")
    assert (code, out) == (1, "")
    assert "net version 1 (champion) as keras is off by" in err
    assert len(err.splitlines()) == 1
    assert path.read_text() == "the one before"
    assert [p.name for p in to.iterdir()] == ["net.keras"]


def test_a_folder_that_is_no_export_is_never_replaced(registry, to, tmp_path):
    (to / "precious").mkdir(parents=True)
    (tmp_path / "link").symlink_to(to)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("saved_model.pb", "thesis.txt"):
        (mixed / name).touch()
    for path in (to, tmp_path / "link", mixed):
        code, out, err = exported(registry, "net", "--format", "saved_model", "--to", str(path), "--force")
        assert (code, out) == (2, "")
        assert err == f"error: --to {path}: a folder that is no export is never replaced; give another\n"
    code, _, err = exported(registry, "net", "--format", "saved_model", "--to", "", "--force")
    assert (code, err) == (2, "error: --to: an empty text; give a file or folder\n")
    assert (to / "precious").is_dir()
    assert (mixed / "thesis.txt").exists()


def test_bad_input_is_named_before_anything_is_loaded(registry, to, monkeypatch):
    monkeypatch.setattr(export, "ONNX", ("no_such_package", "json"))
    code, _, err = exported(registry, "net", "--format", "onnx", "--to", str(to))
    assert code == 2
    assert err.splitlines() == [
        f"error: --to {to}: give a name that ends in .onnx",
        "error: --format onnx: needs no_such_package; pip install -c constraints.txt -e '.[onnx]'",
    ]
    code, _, err = exported(registry, "net@nobody", "--format", "keras", "--to", str(to / "x.keras"))
    assert (code, len(err.splitlines())) == (2, 1)
    assert not to.exists()
    to.write_text("a file")
    code, _, err = exported(registry, "net", "--format", "keras", "--to", str(to / "x.keras"))
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith(f"error: --to {to}/x.keras: cannot be written (")
