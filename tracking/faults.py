"""Tells what a failed call to MLflow means: come back later, try again a few times, or give up."""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterator

from tracking.errors import TrackingAway, TrackingError
from tracking.probe import masked, masked_text


class Fault(enum.Enum):
    """What to do about a failure."""

    AWAY = "the store does not answer, or answers nobody: wait, however long"
    SICK = "it fails on this entry: try again a few times"
    REFUSED = "it will never take this entry"


# 401, 403 and 407 are about who asks, not about what is asked: a token that ran out must not cost metrics.
AWAY_STATUS = frozenset({401, 403, 407, 408, 429, 502, 503, 504})

_LINE = 300  # characters


def fault_of(error: BaseException) -> Fault:
    """What `error`, raised by a call to MLflow or by a file operation, means."""
    import requests

    for link in _chain(error):
        if isinstance(link, requests.exceptions.RetryError):
            return _by_status(_status_of(link))
        if isinstance(link, requests.exceptions.HTTPError) and link.response is not None:
            return _by_status(link.response.status_code)
        if isinstance(link, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
            return Fault.REFUSED
        if isinstance(link, requests.exceptions.RequestException):
            return Fault.AWAY
    status = getattr(error, "get_http_status_code", None)
    if status is not None:
        return _by_status(status())
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return Fault.REFUSED
    return Fault.SICK if isinstance(error, OSError) else Fault.REFUSED


def one_line(error: BaseException) -> str:
    """The text of `error` on one line, cut, its passwords masked; of a lost connection only why."""
    import requests

    for link in _chain(error):
        if isinstance(link, requests.exceptions.Timeout):
            return "the server does not answer in time"
        if isinstance(link, requests.exceptions.RetryError):
            return f"the server answers {_status_of(link)}"
        if isinstance(link, requests.exceptions.ConnectionError):
            found = re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(link))
            return f"the server does not answer ({found[1]})" if found else "the server does not answer"
    text = masked_text(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _LINE else text[: _LINE - 1] + "…"


@contextlib.contextmanager
def told(uri: str) -> Iterator[None]:
    """Every failure of MLflow inside becomes a TrackingError of one line, TrackingAway where it does not answer."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:  # MLflow's, requests' and SQLAlchemy's have no common parent
        kind = TrackingAway if fault_of(error) is Fault.AWAY else TrackingError
        raise kind(f"MLflow at {masked(uri)}: {one_line(error)}") from error


def _status_of(error: BaseException) -> int:
    """The status of a RetryError: requests keeps only that of the answer, in words."""
    found = re.search(r"too many (\d{3}) error responses", str(error))
    return int(found[1]) if found else 503


def _by_status(status: int) -> Fault:
    if status in AWAY_STATUS:
        return Fault.AWAY
    return Fault.SICK if status >= 500 else Fault.REFUSED


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from: MLflow wraps the connection's own error without saying `from`."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
