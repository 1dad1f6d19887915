"""What is served by HTTP, by this program or by MLflow alone, gives the probabilities of `predict`, and ends whole."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import asked, free_port, gone, ours, serving
from support import command, environment

START = 300.0  # seconds, on a machine with much else to do


def by_predict(registry, model, folder):
    """What `predict` says of the images of `registry`."""
    for number, image in enumerate(registry.images):
        Image.fromarray(image).save(folder / f"{number}.png")
    files = [str(folder / f"{number}.png") for number in range(len(registry.images))]
    code, out, err = command(registry.home, "predict", model, *files, "--top", "10", "--json")
    assert code == 0, err
    rows = [{guess["class"]: guess["probability"] for guess in i["top"]} for i in json.loads(out)["images"]]
    return np.array([[row[n] for n in range(10)] for row in rows], np.float32)


@pytest.mark.parametrize("model", ["net@champion", pytest.param("jax-net/1", marks=pytest.mark.long)])
def test_a_request_with_raw_images_is_answered_as_by_predict_and_ctrl_c_ends_all(registry, tmp_path, model):
    port = free_port()
    with serving(model, port, environment(registry.home)) as process:
        told = "\n".join(process.told)
        backend = "jax" if model.startswith("jax") else "tensorflow"
        assert f"{backend}, files checked, SHA-256 " in told
        assert f"serving at http://127.0.0.1:{port}/invocations" in told
        assert f"KERAS_BACKEND={backend} mlflow models serve -m models:/{model} --env-manager local" in told
        found = asked(port, {"inputs": registry.images.tolist()})
        np.testing.assert_allclose(found, by_predict(registry, model, tmp_path), atol=1e-5)
        (example,) = [line for line in process.told if line.startswith("try it:")]
        body = json.loads(Path(example.rpartition("@")[2]).read_text())
        np.testing.assert_allclose(asked(port, body), found, atol=1e-5)
        for wrong in ({"inputs": [[1, 2]]}, {"inputs": (registry.images.astype(int) + 256).tolist()}, {"nothing": 1}):
            with pytest.raises(urllib.error.HTTPError) as refused:
                asked(port, wrong)
            assert refused.value.code == 400
            refused.value.close()
        assert len(ours(port)) >= 3, "this program, MLflow and uvicorn"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert gone(port)
        assert '"POST /invocations HTTP/1.1" 200' in process.stderr.read()


def test_a_taken_port_is_one_line_before_anything_is_loaded(registry):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = command(registry.home, "serve", "net@champion", "--port", str(port))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: --port {port}: cannot listen on 127.0.0.1:{port}")
    assert len(err.splitlines()) == 1


@pytest.mark.long
def test_a_server_whose_program_is_killed_or_terminated_ends_too(registry):
    for number in (signal.SIGKILL, signal.SIGTERM):
        port = free_port()
        with serving("net", port, environment(registry.home)) as process:
            process.send_signal(number)
            assert process.wait(60) == (-signal.SIGKILL if number == signal.SIGKILL else 143)
            assert gone(port)


def stock(registry, *arguments, **extra):
    """MLflow's own command line, as a person runs it in this environment."""
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    settled = {"MLFLOW_TRACKING_URI": registry.uri, "KERAS_BACKEND": "tensorflow", "PATH": programs}
    env = environment(registry.home) | settled | extra
    return subprocess.Popen(["mlflow", "models", *arguments, "--env-manager", "local"], env=env, start_new_session=True)


@pytest.mark.long
def test_mlflows_own_commands_serve_and_predict_the_champion_unchanged(registry, tmp_path):
    body = {"inputs": registry.images.tolist()}
    (tmp_path / "in.json").write_text(json.dumps(body))
    out = tmp_path / "out.json"
    done = stock(registry, "predict", "-m", "models:/net@champion", "-i", str(tmp_path / "in.json"), "-o", str(out))
    assert done.wait(START) == 0
    found = np.array(json.loads(out.read_text())["predictions"], np.float32)
    np.testing.assert_allclose(found, registry.probabilities, atol=1e-5)
    port = free_port()
    server = stock(registry, "serve", "-m", "models:/net@champion", "--port", str(port))
    try:
        deadline = time.monotonic() + START
        while server.poll() is None and time.monotonic() < deadline:
            try:
                np.testing.assert_allclose(asked(port, body), registry.probabilities, atol=1e-5)
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail("the server did not answer")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        assert gone(port)


ALONE = """
import importlib.abc, json, sys

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("search", "spaces", "tracking", "bench"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Forbidden())
try:
    import tracking
except ImportError:
    pass
else:
    sys.exit("the project is here after all")

import keras, mlflow.pyfunc
import numpy as np

unpickled = []
sys.addaudithook(lambda event, arguments: unpickled.append(arguments) if event == "pickle.find_class" else None)
model = mlflow.pyfunc.load_model("models:/net@champion")
with np.load(sys.argv[1]) as given:
    found = model.predict(given["images"])
    np.testing.assert_allclose(found, given["probabilities"], atol=1e-5)
assert not unpickled, unpickled
assert not {"search", "spaces", "tracking"} & set(sys.modules)
print("alone")
"""


def test_the_registered_model_loads_where_this_project_is_not_and_unpickles_nothing(registry, tmp_path):
    np.savez(tmp_path / "given.npz", images=registry.images, probabilities=registry.probabilities)
    env = environment(tmp_path) | {"MLFLOW_TRACKING_URI": registry.uri, "KERAS_BACKEND": "tensorflow"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(tmp_path / "given.npz")],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "alone"
