"""Runs a command under strace, in an empty home: which sockets it opened, which files it wrote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

AESEDGE = (sys.executable, "-m", "aesedge")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""Of the environment. CI is not: ONNX Runtime reports nothing where it, or another name of its kind, is set."""
_FILES = (
    *("open", "openat", "openat2", "creat", "truncate", "mkdir", "mkdirat", "mknod", "mknodat"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir"),
    *("chmod", "fchmodat", "chown", "fchownat", "utimensat", "setxattr"),
)
_LOCAL_SERVICES = ("/run/nscd/", "/var/run/nscd/", "/run/systemd/userdb/")  # the C library looks up users there
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)", re.DOTALL)
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_FAMILY = re.compile(r"\b(?:AF|PF)_[A-Z0-9]+")


class Traced(NamedTuple):
    """What a command did."""

    code: int
    output: str
    sockets: list[str]
    """Calls about sockets that lead out of the machine, or to a service that we do not know."""
    connected: list[str]
    """Those of them that open a connection, or send to an address."""
    written: list[Path]
    """Files and folders that were made, altered or removed."""
    left: list[Path]
    """Files in the temporary folder when it had ended."""


@cache
def why_not() -> str:
    """Return why nothing can be traced here, or an empty text."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    command = [strace, "-f", "-qq", "--seccomp-bpf", "-o", os.devnull, "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace does not work here: {tried.stderr.strip()}"


needs_strace = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it is")


def run_traced(home: Path, *command: object, stdin: bytes = b"", **environment: str) -> Traced:
    """Run a command in a home that is empty but for a temporary folder and the current one."""
    temporary, here, log = home / "temporary", home / "here", home.parent / f"{home.name}.strace"
    for folder in (temporary, here):
        folder.mkdir(parents=True)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    traced = ["strace", "-f", "-qq", "-y", "--seccomp-bpf", "-e", "signal=none", "-o", str(log)]
    done = subprocess.run(
        [*traced, "-e", f"trace=%network,{','.join(_FILES)}", *map(str, command)],
        input=stdin,
        capture_output=True,
        check=False,
        cwd=here,
        env={**kept, "HOME": str(home), "TMPDIR": str(temporary), "LANG": "C.UTF-8", **environment},
    )
    calls = _calls(log.read_text(encoding="utf-8", errors="replace"))
    return Traced(
        done.returncode,
        (done.stdout + done.stderr).decode("utf-8", "replace"),
        [call for name, call, _ in calls if name not in _FILES and _leads_out(call)],
        [call for name, call, _ in calls if name in {"connect", "sendto", "sendmsg"} and _leads_out(call)],
        sorted({path for name, call, ok in calls if name in _FILES and ok for path in _written(name, call, here)}),
        [path for path in temporary.rglob("*") if path.is_file()],
    )


def _calls(log: str) -> list[tuple[str, str, bool]]:
    """Return name, arguments and success of each call; those that were interrupted by another thread are joined."""
    begun: dict[str, str] = {}
    found = []
    for line in log.splitlines():
        process = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>")
            continue
        whole = re.sub(r"^\d+ +<\.\.\. \w+ resumed>", lambda _: begun.pop(process, ""), line)  # noqa: B023 (at once)
        if call := _CALL.match(whole):
            found.append((call[2], call[3], call[4] != "-1"))
    found += [(call[2], call[3], True) for line in begun.values() if (call := _CALL.match(f"{line}) = ?"))]
    return found


def _leads_out(call: str) -> bool:
    """Whether a call about a socket is about another family than local sockets, or about a service that is unknown."""
    families = set(_FAMILY.findall(call))
    if families - {"AF_UNIX", "AF_LOCAL", "AF_UNSPEC"}:
        return True
    served = re.search(r'sun_path=@?"([^"]*)"', call)
    return served is not None and not served[1].startswith(_LOCAL_SERVICES)


def _written(name: str, call: str, here: Path) -> list[Path]:
    if name.startswith("open") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", call):
        return []
    paths = [Path(base or here, name.encode().decode("unicode_escape")) for base, name in _PATH.findall(call)]
    if name in {"link", "linkat", "symlink", "symlinkat"}:
        paths = paths[1:]
    return [Path(os.path.normpath(path)) for path in paths]


@cache
def named_folders(home: Path) -> tuple[Path, ...]:
    """Return the folders that ``aesedge doctor`` names, in a home."""
    found = run_traced(home, *AESEDGE, "doctor", "--json")
    assert found.code == 0, found.output
    report: dict[str, Any] = json.loads(found.output.splitlines()[0])
    return tuple(Path(disk["folder"]).relative_to(home) for disk in report["disks"])


def foreign(found: Traced, home: Path, named: Sequence[Path], *given: Path) -> list[Path]:
    """Return what a command wrote outside of the folders that doctor names and that its user gave.

    Python's own bytecode beside the code does not count: pip writes it when it installs.
    """
    allowed = [*(home / folder for folder in named), *given, Path("/proc"), Path("/dev/null"), Path("/dev/tty")]
    parents = {parent for folder in allowed for parent in folder.parents}  # are made on the way to them
    return [
        path
        for path in found.written
        if path not in parents
        and "__pycache__" not in path.parts
        and not any(path == folder or folder in path.parents for folder in allowed)
    ]
