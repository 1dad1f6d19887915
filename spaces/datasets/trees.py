"""A folder, a .zip or a .tar as one thing: the files in it, what tells that they changed, and their content."""

from __future__ import annotations

import functools
import hashlib
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spaces.datasets.sources import one_line
from spaces.errors import DatasetCorrupt, DatasetUnavailable

HIDDEN = (".", "__MACOSX")
DEEPEST = 6  # folders below the first


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """Files by their path below `root` (with /), ascending, and the folders among them; hidden ones are left out.

    `read(path)` gives a file's content and raises OSError where that cannot be had; any thread may call it.
    """

    root: Path
    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[str], bytes]


def stamp(path: Path) -> str:
    """What changes when a file does, or when one in a folder does: a digest of names, sizes and times of change.

    Raises DatasetUnavailable where it cannot be read.
    """
    found = _walk(path)[0] if path.is_dir() else {"": _facts(path)}
    lines = "".join(f"{name}\0{size} {time}\n" for name, (size, time) in sorted(found.items()))
    return hashlib.sha256(f"{path}\n{lines}".encode(errors="surrogateescape")).hexdigest()


def grow(path: Path) -> Tree:
    """The tree of a folder, a .zip or an uncompressed .tar. Raises DatasetUnavailable, DatasetCorrupt."""
    if path.is_dir():
        files, folders = _walk(path)
        return Tree(
            root=path,
            files=tuple(sorted(files)),
            folders=tuple(sorted(folders)),
            read=lambda name: (path / name).read_bytes(),
        )
    return _archive(path, *_facts(path))


@functools.lru_cache(maxsize=4)  # reading the table of 100,000 files takes seconds
def _archive(path: Path, size: int, time: int) -> Tree:
    return (_zip if path.suffix == ".zip" else _tar)(path)


def _facts(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DatasetUnavailable(f"{path} cannot be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns


def _walk(root: Path) -> tuple[dict[str, tuple[int, int]], set[str]]:
    """Size and time of change of every file below `root`, and the folders; links are followed, circles are not."""
    files: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()

    def look(folder: str, below: str, depth: int, above: frozenset[tuple[int, int]]) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = below + entry.name
                if entry.name.startswith(HIDDEN):
                    continue
                if not entry.is_dir():
                    if not entry.is_file() and not entry.is_symlink():
                        continue  # a pipe or a device: reading it could wait for ever
                    stat = entry.stat(follow_symlinks=entry.is_file())  # a broken link is read as such, and named
                    files[name] = (stat.st_size, stat.st_mtime_ns)
                    continue
                stat = entry.stat()
                here = (stat.st_dev, stat.st_ino)
                if depth < DEEPEST and here not in above:  # a link to a folder that it is in leads round in a circle
                    folders.add(name)
                    look(entry.path, f"{name}/", depth + 1, above | {here})

    try:
        top = root.stat()
        look(str(root), "", 0, frozenset({(top.st_dev, top.st_ino)}))
    except OSError as error:
        raise DatasetUnavailable(f"{error.filename or root} cannot be read: {error.strerror}") from error
    return files, folders


def _zip(path: Path) -> Tree:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DatasetCorrupt(f"{path} is damaged or truncated: {one_line(error)}") from error
    members = {info.filename.removeprefix("./"): info for info in archive.infolist() if not info.is_dir()}

    def read(name: str) -> bytes:
        try:
            return archive.read(members[name])
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise OSError(one_line(error)) from error

    return _planted(path, members, read)


def _tar(path: Path) -> Tree:
    try:
        with tarfile.open(path, "r:") as archive:
            places = {
                member.name.removeprefix("./"): (member.offset_data, member.size)
                for member in archive
                if member.isfile()
            }
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DatasetCorrupt(f"{path} is damaged, truncated or compressed: {one_line(error)}") from error

    def read(name: str) -> bytes:
        start, size = places[name]
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(size)
        if len(content) < size:
            raise OSError("it is truncated")
        return content

    return _planted(path, places, read)


def _planted(path: Path, members: Mapping[str, object], read: Callable[[str], bytes]) -> Tree:
    seen = [name for name in sorted(members) if not any(part.startswith(HIDDEN) for part in name.split("/"))]
    folders = {name[:i] for name in seen for i, letter in enumerate(name) if letter == "/"}
    return Tree(root=path, files=tuple(seen), folders=tuple(sorted(folders)), read=read)
