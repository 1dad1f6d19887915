"""Writes a registered model as one file or folder for other programs, once it gives what the original gives."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search import images, job, registered, report
from search.errors import InputError, SearchError
from search.registered import Registered
from search.settings import Settings

SUFFIXES = {"keras": ".keras", "saved_model": "", "onnx": ".onnx"}
ONNX = ("tf2onnx", "onnx", "onnxruntime")
RANDOM_IMAGES, SEED = 32, 0
MOST = 1e-5  # the largest difference of a probability from the original's


def export(reference: str, form: str, to: str, settings: Settings, *, force: bool, as_json: bool) -> None:
    """Write the model as `form` to the path `to`, and compare what is loaded from there with the original.

    Both run on the processor, on seeded random images and the model's own examples; the original with the backend it
    was trained with. Raises InputError for a path that is there (unless `force`), a wrong suffix or a missing package,
    and SearchError where a probability is off by more than MOST; nothing is then left at, or taken from, the path.
    """
    if not to:
        raise InputError("--to: an empty text; give a file or folder")
    target = Path(to).expanduser().absolute()
    _check(target, form, force)
    model = registered.bring(reference, settings)
    # TensorFlow alone writes these two; a network's weights are the same under each backend.
    writer = model.backend if form == "keras" else "tensorflow"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"--to {images.shown(target)}: cannot be written ({error.strerror})") from None
    try:
        made = aside / f"model{SUFFIXES[form]}"
        compared = _write(model, form, writer, made, aside)
        _put(made, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    said = {
        "path": str(target),
        "format": form,
        "bytes": _size(target),
        "model": model.version.name,
        "version": model.version.version,
        "trained_with": model.backend,
        "written_with": writer,
        **compared,
    }
    if as_json:
        return report.emit(said)
    print(f"{model.title} is at {images.shown(target)} ({form}, {_size(target) / 1e6:.2f} MB)")
    print(
        f"loaded back, its probabilities differ from the original's by at most {compared['difference']:.1e} "
        f"over {compared['images']} images"
    )
    if writer != model.backend:
        print(f"trained with {model.backend}, written with {writer}; the original was compared under {model.backend}")
    return None


def _check(target: Path, form: str, force: bool) -> None:
    problems = []
    suffix = SUFFIXES[form]
    if suffix and target.suffix != suffix:
        problems.append(f"--to {images.shown(target)}: give a name that ends in {suffix}")
    if (target.exists() or target.is_symlink()) and not force:
        problems.append(f"--to {images.shown(target)}: is there already; give another or --force to replace it")
    elif target.is_dir() and not _is_export(target):
        problems.append(f"--to {images.shown(target)}: a folder that is no export is never replaced; give another")
    missing = [name for name in ONNX if importlib.util.find_spec(name) is None] if form == "onnx" else []
    if missing:
        problems.append(f"--format onnx: needs {', '.join(missing)}; pip install -c constraints.txt -e '.[onnx]'")
    if problems:
        raise InputError(problems)


def _is_export(folder: Path) -> bool:
    """Whether a folder is what an export left: TensorFlow's SavedModel, and nothing that was put beside it."""
    theirs = {"saved_model.pb", "fingerprint.pb", "assets", "variables"}
    return not folder.is_symlink() and {"saved_model.pb"} <= {p.name for p in folder.iterdir()} <= theirs


def _write(model: Registered, form: str, writer: str, made: Path, aside: Path) -> dict[str, float]:
    """Write and compare; how far it is off and over how many images. Raises SearchError where that is too far."""
    probes, expected = aside / "images.npy", aside / "expected.npy"
    np.save(probes, _probes(model))
    asked = {"model": str(model.folder), "images": str(probes)}
    job.run(
        "search.trial.predict",
        {**asked, "out": str(expected)},
        backend=model.backend,
        gpu=False,
    )
    compared = job.run(
        "search.trial.export",
        {**asked, "expected": str(expected), "format": form, "path": str(made)},
        backend=writer,
        gpu=False,
    )
    difference = compared["difference"]
    if difference is None or difference > MOST:
        off = "gives what is no number" if difference is None else f"is off by {difference:.1e}"
        raise SearchError(
            f"{model.title} as {form} {off} over {compared['images']} images, allowed is {MOST:.0e}; nothing was kept"
        )
    return compared


def _probes(model: Registered) -> npt.NDArray[np.uint8]:
    """Random images, the same each time, and those that were packaged with the model."""
    random = np.random.default_rng(SEED).integers(0, 256, (RANDOM_IMAGES, *model.shape), dtype=np.uint8)
    path = model.folder / "input_example.json"
    if not path.is_file():
        return random
    examples = np.asarray(json.loads(path.read_text()), dtype=np.uint8).reshape(-1, *model.shape)
    return np.concatenate([random, examples])


def _put(made: Path, target: Path) -> None:
    """Move what was made to its place; what is there is only taken away once the new one is whole."""
    before = None
    if target.is_dir() and not target.is_symlink():
        before = made.with_name("before")
        target.replace(before)
    try:
        made.replace(target)
    except OSError:
        if before is not None:
            before.replace(target)
        raise


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size
