"""The house: imports run one way, each vendor has one home, and help is cheap."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(p for folder in ("search", "spaces", "tracking") for p in (ROOT / folder).rglob("*.py"))

HOMES = {
    "mlflow": ("tracking/",),
    "optuna": (
        "search/engines/",
        "search/study.py",
        "search/asking.py",
        "search/reconcile.py",
        "search/mender.py",
        "search/mismatch.py",
        "search/restore.py",
        "search/remove.py",
        "search/figures.py",
        "search/report.py",
        "search/promote.py",
        "search/candidate.py",
        "search/repeats.py",
        "search/weights.py",
        "search/ranking.py",
        "search/scores.py",
        "search/pareto.py",
        "search/shown.py",
        "search/ui.py",
        "search/mirror.py",
        "search/links.py",
        "search/auditing.py",
        "search/lease.py",
        "search/versions.py",
        "search/renewal.py",
        "search/carried.py",
        "search/earlier.py",
        "search/warm.py",
        "search/observed.py",
        "search/explained.py",
        "search/explain.py",
    ),
    "keras_tuner": ("search/engines/", "spaces/hypermodels/"),
    "keras": ("search/trial/", "spaces/", "tracking/packaging.py"),
    "tensorflow": ("search/trial/",),
    "jax": ("search/trial/",),
    "sklearn": ("spaces/datasets/", "search/evaluation.py", "search/fanova.py", "search/influence.py"),
    "matplotlib": ("tracking/", "search/figures.py", "search/dressing.py"),
    "onnxruntime": ("search/trial/",),
    "PIL": ("search/images.py", "spaces/datasets/", "tracking/evaluation_figures.py", "tracking/gallery.py"),
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_wings_never_import_search_and_each_vendor_stays_at_home(path):
    name = str(path.relative_to(ROOT))
    found = imports(path)
    if not name.startswith("search/"):
        assert not [i for i in found if i.split(".")[0] == "search"]
    for vendor, homes in HOMES.items():
        if any(i.split(".")[0] == vendor for i in found):
            assert name.startswith(homes), f"{name} imports {vendor}"


@pytest.mark.parametrize("path", [p for p in SOURCES if "search/trial/" in str(p)], ids=lambda p: p.name)
def test_a_worker_reaches_neither_the_coordinator_nor_a_store(path):
    allowed = ("search.trial", "tracking.packaging", "tracking.gallery")
    reached = {i for i in imports(path) if i.split(".")[0] in ("search", "tracking")} - {"tracking"}
    assert not [i for i in reached if not i.startswith(allowed)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path):
    if path.read_text().strip():
        assert ast.get_docstring(ast.parse(path.read_text()))


def test_only_a_promotion_opens_the_test_split():
    users = [p for p in SOURCES if "open_test" in p.read_text() and "spaces/datasets" not in str(p)]
    assert [str(p.relative_to(ROOT)) for p in users] == ["search/trial/evaluate.py"]
    starters = [p for p in SOURCES if "search.trial.evaluate" in p.read_text() and p not in users]
    assert [str(p.relative_to(ROOT)) for p in starters] == ["search/sealed.py"]


CHEAP = ("--help", "run --help", "predict --help", "serve --help", "export --help", "spaces", "plan cnn_digits")


@pytest.mark.parametrize("arguments", [line.split() for line in CHEAP])
def test_cheap_commands_import_nothing_heavy(arguments, tmp_path):
    code = (
        "import sys; from search.cli import cli; cli.main(sys.argv[1:], standalone_mode=False);"
        "heavy = {'tensorflow', 'keras', 'jax', 'mlflow', 'ray', 'optuna', 'sklearn', 'pandas'} & set(sys.modules);"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"SEARCH_HOME": str(tmp_path)},
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"
