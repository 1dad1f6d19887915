"""A packaged model is whole, says what goes in and out, and is made in no time."""

import json

import numpy as np
import pytest

from tracking import packaging
from tracking.described import describe
from tracking.errors import TrackingError

JAX = """
import json, sys, time
from pathlib import Path
import keras
import numpy as np
from tracking import packaging

keras.utils.disable_interactive_logging()
folder = Path(sys.argv[1]) / "deep" / "model"
network = keras.Sequential([keras.Input((8, 8, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255),
                            keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
images = np.zeros((2, 8, 8, 1), np.uint8)
def save(config):
    packaging.save(network, folder, example=images, requirements=packaging.environment_versions(), config=config,
                   metadata={"class_names": [f"class {number}" for number in range(1000)]})
save({"first": True})
before = time.perf_counter()
save({"first": False})
seconds = time.perf_counter() - before
import mlflow.pyfunc
predicted = mlflow.pyfunc.load_model(str(folder)).predict(images)
print("\\n" + json.dumps({"seconds": seconds, "dtype": str(predicted.dtype), "shape": predicted.shape,
                  "backend": keras.backend.backend()}))
"""


def test_the_folder_says_what_goes_in_and_out_and_how_it_was_configured(packaged):
    from mlflow.models import Model

    described = Model.load(str(packaged / "MLmodel"))
    (into,), (out,) = described.signature.inputs.inputs, described.signature.outputs.inputs
    assert (into.type, into.shape) == (np.dtype("uint8"), (-1, 8, 8, 3))
    assert (out.type, out.shape) == (np.dtype("float32"), (-1, 10))
    assert described.metadata == {"trial": 7, "config": {"filters": 4}}
    assert json.loads((packaged / "config.json").read_text()) == {"filters": 4}
    assert np.array(json.loads((packaged / "input_example.json").read_text())).shape == (4, 8, 8, 3)
    requirements = (packaged / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements] == ["mlflow", "keras", "tensorflow", "numpy"]
    assert {path.name for path in packaged.parent.iterdir()} == {"model", "expected.npz"}, "nothing left aside"


def test_under_jax_it_saves_fast_replaces_the_folder_and_loads(tmp_path, python):
    told = json.loads(python(JAX, str(tmp_path), KERAS_BACKEND="jax").splitlines()[-1])
    assert told["seconds"] < 2.0
    assert (told["backend"], told["dtype"], told["shape"]) == ("jax", "float32", [2, 10])
    folder = tmp_path / "deep" / "model"
    assert json.loads((folder / "config.json").read_text()) == {"first": False}
    assert len(describe(folder).metadata["class_names"]) == 1000
    assert "jax==" in (folder / "requirements.txt").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_packaged_model_describes_itself_and_another_folder_is_one_line(packaged, tmp_path):
    found = describe(packaged)
    assert (found.shape, found.classes, found.metadata["trial"]) == ((8, 8, 3), 10, 7)
    (tmp_path / "MLmodel").write_text("flavors: {}\nmodel_uuid: x\nutc_time_created: 2026-01-01\n")
    for folder in (tmp_path, tmp_path / "no"):
        with pytest.raises(TrackingError, match="was not packaged by this program") as error:
            describe(folder)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("example", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)])
def test_an_example_that_is_not_images_is_refused(example, tmp_path):
    with pytest.raises(ValueError, match="give uint8 images"):
        packaging.save(None, tmp_path / "m", example=example, requirements=[], config={}, metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_what_was_there(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("old")
    with pytest.raises(AttributeError):
        packaging.save(object(), folder, example=np.zeros((1, 8, 8, 3), np.uint8), requirements=[], config={},
                       metadata={})  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "MLmodel").read_text() == "old"
