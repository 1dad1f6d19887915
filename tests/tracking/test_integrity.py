"""One digest says whether a model's files are still those that were uploaded."""

import pytest

from tracking.integrity import folder_digest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "MLmodel").write_text("flavors: {}")
    (tmp_path / "data" / "model.keras").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "data" / "model.keras").write_bytes(b"weightz"),
        lambda f: (f / "MLmodel").write_text("flavors: {python_function: {loader_module: evil}}"),
        lambda f: (f / "data" / "more.py").touch(),
        lambda f: (f / "MLmodel").unlink(),
        lambda f: (f / "data" / "model.keras").rename(f / "model.keras"),
    ],
    ids=["a byte", "the loader", "one more file", "one file less", "one file elsewhere"],
)
def test_any_change_of_a_models_files_changes_its_digest(folder, change):
    before = folder_digest(folder)
    change(folder)
    assert folder_digest(folder) != before


def test_a_report_and_what_mlflow_leaves_when_it_loads_are_no_part_of_a_model(folder):
    before = folder_digest(folder)
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "report.html").write_text("<html>")
    (folder / "registered_model_meta").write_text("model_name: x")
    assert folder_digest(folder) == before
