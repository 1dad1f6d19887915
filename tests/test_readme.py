"""What the documents say can be typed exists, and CI runs the README's own two commands."""

import re
from pathlib import Path

import click
import pytest

from search.cli import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "spaces").glob("[a-z]*.py"))]
TYPED = [
    (document.name, command.strip())
    for document in DOCUMENTS
    for command in re.findall(r"python -m search ([a-z][^`|\n&#]*)", document.read_text())
]


@pytest.mark.parametrize(("document", "command"), TYPED)
def test_every_command_in_the_documents_exists_with_its_flags(document, command):
    words = command.replace("[", " ").replace("]", " ").split()
    verb = cli.commands[words[0]]
    flags = {name for option in verb.params if isinstance(option, click.Option) for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= flags


def test_the_readme_names_every_command_and_every_flag_of_run():
    text = (ROOT / "README.md").read_text()
    for name in cli.commands:
        assert f"python -m search {name}" in text


def test_ci_installs_and_tests_as_the_readme_says():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert 'pip install -c constraints.txt -e ".[test]" && python -m pytest' in readme
    assert "setup='pip install -c constraints.txt -e \".[test]\"'" in ci
    assert "tests='python -m pytest'" in ci


def test_every_picture_and_file_the_readme_shows_is_there():
    for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).is_file(), link


def test_constraints_are_plain_pins_and_name_no_index():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;@]+", line) for line in lines)
