"""The comparison of ways of searching, from the command line, on tables made up by a formula."""

import json

import pytest
from click.testing import CliRunner

from bench import quality, synthetic
from bench.grid import grid_of
from search.executors import table
from spaces import find


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name in ("fashion", "cifar"):
        table.write(folder / f"{name}.json.xz", synthetic.table(find(grid_of(name))))
    return folder


def compare(tables, out, *arguments, name="fashion"):
    words = ("--table", str(tables / f"{name}.json.xz"), "--out", str(out), "--jobs", "1", *arguments)
    return CliRunner().invoke(quality.main, words)


def test_searches_are_run_once_kept_and_reported_with_intervals_and_ranks(tables, tmp_path):
    words = ("--methods", "random,optuna-random", "--seeds", "3", "--slots", "1,2")
    first = compare(tables, tmp_path, *words)
    assert first.exit_code == 0, first.output
    assert "0 of 12 searches" in first.output
    assert "proves nothing" in first.output
    page = (tmp_path / "quality-fashion.md").read_text()
    assert "MADE UP BY A FORMULA" in page
    assert page.count("| random search | 3 |") == 2
    facts = json.loads((tmp_path / "quality-fashion.json").read_text())["slots"]["1"]["random"]
    assert facts["10"]["mean"] > facts["100"]["mean"] >= 0
    assert facts["30"]["low"] <= facts["30"]["mean"] <= facts["30"]["high"]
    assert (tmp_path / "quality-fashion.png").stat().st_size > 10_000
    again = compare(tables, tmp_path, *words)
    assert "12 of 12 searches" in again.output
    assert (tmp_path / "quality-fashion.md").read_text().split("\n## ")[1:] == page.split("\n## ")[1:]


def test_the_table_of_the_report_is_not_opened_by_the_way(tables, tmp_path):
    refused = compare(tables, tmp_path, "--methods", "random", name="cifar")
    assert refused.exit_code == 2
    assert "--report" in refused.output
    assert not list(tmp_path.iterdir())


def test_unknown_methods_are_named_all_at_once(tables, tmp_path):
    refused = compare(tables, tmp_path, "--methods", "random,what,who")
    assert refused.exit_code == 2
    assert len([line for line in refused.output.splitlines() if "unknown" in line]) == 2


def test_a_result_is_stale_once_the_code_that_made_it_changes(monkeypatch, tables, tmp_path):
    words = ("--methods", "random", "--seeds", "1", "--slots", "1")
    assert compare(tables, tmp_path, *words).exit_code == 0
    monkeypatch.setattr(quality, "fingerprint", lambda method: "another")
    assert "0 of 1 searches" in compare(tables, tmp_path, *words).output
