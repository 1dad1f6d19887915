"""`predict` gives a model's own probabilities for files of any kind, and one clear line for whatever is wrong."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from support import apart, champion, command, environment

from search.pretrained import NETWORKS


@pytest.fixture(scope="module")
def pictures(registry, tmp_path_factory):
    """A folder with the images of `net`, in order, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(registry.images):
        Image.fromarray(image).save(folder / f"[red]{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def predicted(registry, *arguments, home=None):
    return command(home or registry.home, "predict", *arguments, "--tracking-uri", registry.uri)


def failed(answer, code, *pieces):
    found, out, err = answer
    assert found == code, err
    assert "Traceback" not in out + err
    assert len(err.splitlines()) == 1
    for piece in pieces:
        assert piece in err, err


def test_it_gives_the_models_own_probabilities_and_names_what_is_no_image(registry, pictures):
    code, out, err = predicted(registry, "net@champion", str(pictures), "--top", "10", "--json")
    assert (code, err) == (1, f"skipped: {pictures}/notes.txt: no image of a known format\n")
    told = json.loads(out)
    assert (told["model"], told["version"], told["aliases"], told["backend"]) == (
        "net",
        "1",
        ["champion"],
        "tensorflow",
    )
    assert len(told["sha256"]) == 64
    assert [Path(i["file"]).name for i in told["images"]] == [f"[red]{n}.png" for n in range(len(registry.images))]
    for image, expected in zip(told["images"], registry.probabilities, strict=True):
        found = {guess["class"]: guess["probability"] for guess in image["top"]}
        np.testing.assert_allclose([found[n] for n in range(10)], expected, atol=1e-5)
        assert [g["probability"] for g in image["top"]] == sorted(found.values(), reverse=True)
    assert {g["name"] for g in told["images"][0]["top"]} >= {"[bold]car", "ship, big"}
    assert told["skipped"] == [{"file": f"{pictures}/notes.txt", "reason": "no image of a known format"}]


def test_a_jax_model_is_run_with_jax_and_its_table_shows_names_as_they_are(registry, pictures):
    code, out, err = predicted(registry, "models:/jax-net@champion", str(pictures / "[red]0.png"), "--top", "10")
    assert (code, err) == (0, "")
    assert "jax-net version 1 (champion)" in out
    assert "[red]0.png" in out
    assert "[bold]car" in out


def test_an_older_model_takes_grey_and_its_classes_are_numbers(registry, pictures):
    code, out, _ = predicted(registry, "old", str(pictures / "[red]0.png"), "--top", "2", "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert all(row["class"] == row["name"] and 0 <= float(row["probability"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["net@nobody", "x.png"], 2, "net has no alias 'nobody'; there: champion (version 1)"),
        (["net/9", "x.png"], 2, "net has no version 9; there: 1"),
        (["nett", "x.png"], 2, "no model 'nett' in the registry"),
        (["a/b", "x.png"], 2, "'a/b' is no model"),
        (["net", "x.png", "http://host/y.png"], 2, "http://host/y.png: an address"),
        (["keras:ResNet50", "s3://bucket/y.png"], 2, "s3://bucket/y.png: an address"),
        (["net", ""], 2, "FILES: one of them is an empty text"),
        (["net", "x.png", "--json", "--csv"], 2, "--json and --csv"),
        (["net", "x.png", "--weights", "w.h5"], 2, "--weights: only with a network of Keras"),
        (["keras:resnet5", "x.png"], 2, "Did you mean keras:ResNet50?"),
        (["keras:ResNet50", "x.png", "--weights", "no.h5"], 2, "--weights no.h5: no such file"),
    ],
)
def test_bad_input_is_one_line(registry, arguments, code, says):
    failed(predicted(registry, *arguments), code, says)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_what_it_started_and_leaves_no_file(registry, pictures, tmp_path, sent, code):
    (tmp_path / "temporary").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "predict", "net", str(pictures), "--tracking-uri", registry.uri],
        env=environment(registry.home, TMPDIR=str(tmp_path / "temporary")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (started := psutil.Process(process.pid).children()):
        time.sleep(0.05)
    process.send_signal(sent)
    assert process.wait(20) == code
    assert not [child for child in started if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_where_no_file_is_an_image_nothing_is_loaded(registry, tmp_path):
    code, out, err = predicted(registry, "net", str(tmp_path / "no.png"), str(tmp_path))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "error: no image among what was given; nothing to predict"
    assert len(err.splitlines()) == 3


def test_a_registry_that_is_away_or_not_there_is_one_line_and_nothing_is_made(registry, tmp_path):
    away = command(registry.home, "predict", "net", "x.png", "--tracking-uri", "http://127.0.0.1:9")
    failed(away, 2, "tracking server http://127.0.0.1:9 does not answer")
    failed(command(tmp_path / "home", "predict", "net", "x.png"), 2, "no model in sqlite:///", "promote STUDY")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["data/model.keras", "MLmodel"])
@pytest.mark.parametrize("verb", ["predict", "serve", "export"])
def test_a_model_with_one_changed_byte_is_refused_by_its_digest(registry, pictures, tmp_path, name, verb):
    path = registry.files / name
    whole = path.read_bytes()
    rest = {
        "predict": [str(pictures / "[red]0.png")],
        "serve": ["--port", "5999"],
        "export": ["--format", "keras", "--to", str(tmp_path / "x.keras")],
    }
    try:
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        answer = command(tmp_path / "home", verb, "net", *rest[verb], "--tracking-uri", registry.uri)
    finally:
        path.write_bytes(whole)
    failed(answer, 1, "is not what was registered", "have the digest")
    assert not list((tmp_path / "home").rglob("*.keras"))
    assert not (tmp_path / "x.keras").exists()


def test_a_changed_copy_is_fetched_anew(registry, pictures):
    copies = [p for p in (registry.home / "models").glob("m-*") if p.name in str(registry.files)]
    if not copies:
        assert predicted(registry, "net", str(pictures / "[red]0.png"))[0] == 0
        copies = [p for p in (registry.home / "models").glob("m-*") if p.name in str(registry.files)]
    (copies[0] / "data" / "model.keras").write_bytes(b"something else")
    code, out, _ = predicted(registry, "net", str(pictures / "[red]0.png"), "--json", "--top", "1")
    assert code == 0
    assert json.loads(out)["images"][0]["top"][0]["class"] == int(registry.probabilities[0].argmax())


def withdraw(uri, model_id, what):
    from tracking import client

    opened = client.connect(uri)
    if what == "version":
        opened.delete_model_version("gone", "1")
    else:
        opened.delete_logged_model(model_id)


def test_a_version_deleted_underneath_is_one_line(registry, pictures, tmp_path):
    uri, home, folder = f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}", tmp_path / "home", tmp_path / "model"
    shutil.copytree(registry.files, folder)
    model_id = apart(partial(champion, uri, home, folder, "gone"))
    image = str(pictures / "[red]0.png")
    (files,) = [p.parent for p in (home / "artifacts").rglob("MLmodel")]
    files.rename(tmp_path / "aside")
    failed(command(home, "predict", "gone", image), 1, f"error: the files of model {model_id} are gone from")
    (tmp_path / "aside").rename(files)
    apart(partial(withdraw, uri, model_id, "logged model"))
    failed(command(home, "predict", "gone", image), 1, f"model {model_id} is gone from MLflow")
    apart(partial(withdraw, uri, model_id, "version"))
    failed(command(home, "predict", "gone", image), 2, "gone has no alias 'champion'; there: none")
    failed(command(home, "predict", "gone/1", image), 2, "gone has no version 1; there: none")


UNSAFE = """
import sys
import keras
network = keras.Sequential([keras.Input((8, 8, 3), dtype="uint8"), keras.layers.Lambda(lambda x: x / 255),
                            keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
network.save(sys.argv[1])
"""


def test_a_model_that_carries_code_of_its_own_is_not_loaded(tmp_path):
    (tmp_path / "model" / "data").mkdir(parents=True)
    order = {"model": str(tmp_path / "model"), "images": str(tmp_path / "x.npy"), "out": "y.npy"}
    np.save(order["images"], np.zeros((1, 8, 8, 3), np.uint8))
    (tmp_path / "order").write_text(json.dumps(order))
    env = environment(tmp_path) | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    path = str(tmp_path / "model" / "data" / "model.keras")
    subprocess.run([sys.executable, "-c", UNSAFE, path], env=env, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "search.trial.predict", str(tmp_path / "order"), str(tmp_path / "answer")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "lambda" in done.stderr.splitlines()[-1].lower()
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "answer").exists()


PRETRAINED = """
import json, sys
from pathlib import Path
import h5py, keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format
from search import images
name, module, target, picture = sys.argv[1:]
keras.utils.set_random_seed(3)
network = getattr(keras.applications, name)(weights=None, classifier_activation="softmax")
if target.endswith(".weights.h5"):
    network.save_weights(target)
else:  # as in Keras' cache
    with h5py.File(target, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
pixels = images.read(Path(picture), network.input_shape[1:])[None].astype("float32")
prepared = getattr(keras.applications, module).preprocess_input(pixels)
print(json.dumps(network.predict(prepared, verbose=0)[0].tolist()))
"""


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photograph") / "photograph.jpg"
    smooth = Image.fromarray(np.random.default_rng(5).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    smooth.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def probabilities_of_keras(name, module, target, picture):
    target.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", PRETRAINED, name, module, str(target), str(picture)],
        env=environment(target.parent, KERAS_BACKEND="tensorflow"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def close(told, expected, atol=1e-5):
    found = {guess["class"]: guess["probability"] for guess in told["images"][0]["top"]}
    np.testing.assert_allclose([found[n] for n in range(1000)], expected, atol=atol)


def test_a_network_of_keras_is_run_with_weights_from_the_cache_and_its_own_preprocessing(tmp_path, photograph):
    folder = tmp_path / "keras" / "models"
    weights = folder / NETWORKS["MobileNetV2"][1]
    nothing = command(
        tmp_path / "home", "predict", "keras:MobileNetV2", str(photograph), KERAS_HOME=str(tmp_path / "keras")
    )
    failed(nothing, 2, f"put {weights.name} into {folder}, or give --weights FILE")
    expected = probabilities_of_keras("MobileNetV2", "mobilenet_v2", weights, photograph)
    asked = ("predict", "keras:MobileNetV2", str(photograph), "--top", "1000", "--json")
    code, out, err = command(tmp_path / "home", *asked, KERAS_HOME=str(tmp_path / "keras"))
    assert (code, err) == (0, "")
    close(json.loads(out), expected)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        pytest.param("NASNetMobile", "nasnet", marks=pytest.mark.long),
        pytest.param("ResNet50", "resnet50", marks=pytest.mark.long),
    ],
)
def test_weights_may_be_given_as_a_file_and_classes_have_names_once_their_list_is_there(
    tmp_path, photograph, name, module
):
    weights = tmp_path / "mine.weights.h5"
    expected = probabilities_of_keras(name, module, weights, photograph)
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    asked = ("predict", f"keras:{name}", str(photograph), "--weights", str(weights))
    code, out, _ = command(tmp_path / "home", *asked, KERAS_HOME=str(tmp_path / "keras"))
    assert code == 0
    assert "classes are numbers: put imagenet_class_index.json into" in out
    index = {str(n): [f"n{n:08}", f"thing {n}"] for n in range(1000)}
    (models / "imagenet_class_index.json").write_text(json.dumps(index))
    code, out, _ = command(tmp_path / "home", *asked, "--json", "--top", "1000", KERAS_HOME=str(tmp_path / "keras"))
    assert code == 0
    close(json.loads(out), expected)
    best = int(np.argmax(expected))
    assert json.loads(out)["images"][0]["top"][0]["name"] == f"thing {best}"


def test_weights_that_are_not_the_networks_own_are_one_line(tmp_path, photograph):
    (tmp_path / "bad.h5").write_bytes(b"no weights")
    asked = ("predict", "keras:MobileNetV2", str(photograph), "--weights", str(tmp_path / "bad.h5"))
    failed(command(tmp_path / "home", *asked), 1, "bad.h5 cannot be used as the weights of MobileNetV2")


EVERY_NETWORK = """
import inspect, json, sys, traceback
import keras
from search.pretrained import NETWORKS

class Asked(Exception):
    pass

def watch(event, arguments):
    if event == "urllib.Request":
        raise Asked(arguments[0])

sys.addaudithook(watch)
everything = {name: getattr(keras.applications, name) for name in dir(keras.applications)}
known = {n for n, f in everything.items() if callable(f) and "weights" in inspect.signature(f).parameters}
wrong = sorted(known ^ set(NETWORKS))
renamed = {"NASNet-mobile.h5": "nasnet_mobile.h5", "NASNet-large.h5": "nasnet_large.h5"}
for name, (side, file) in NETWORKS.items():
    try:
        everything[name]()
    except Asked as asked:  # for its weights, once the network stands
        url = str(asked).rpartition("/")[2]
        frames = [frame.f_locals for frame, _ in traceback.walk_tb(asked.__traceback__)]
        (shape,) = {frame["model"].input_shape for frame in frames if "model" in frame}
        if renamed.get(url, url) != file or shape not in ((None, side, side, 3), (None, None, None, 3)):
            wrong.append(f"{name}: {url} {shape}")
    else:
        wrong.append(f"{name}: asked for no weights")
    frames = None
    keras.utils.clear_session()
print(json.dumps(wrong))
"""


@pytest.mark.long
def test_the_table_of_networks_is_keras_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EVERY_NETWORK],
        env=environment(tmp_path, KERAS_BACKEND="numpy", KERAS_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []
