"""How a job answers: `python -m MODULE ORDER ANSWER`, two JSON files; a failure is one line and exit code 1."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spaces.errors import SpaceError


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Do `work` on the order of this process' command line and write down what it returns."""
    asked, said = map(Path, sys.argv[1:])
    try:
        said.write_text(json.dumps(work(json.loads(asked.read_text()))))
    except (SpaceError, OSError, ValueError, TypeError, KeyError) as error:
        sys.exit(" ".join(f"{error}".split())[:1000])
