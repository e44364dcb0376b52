"""Check model files before this process loads them: parse headers here, load them first in a child process.

llama.cpp aborts the process on files that it does not expect, and ONNX Runtime may. Usual faults are found in the
header and reported in words; for the rest the first load of a file, and a first answer, happen in a child process whose
crash is an error here. Loaded files are remembered in the cache folder. A forged note there can crash the process and
nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import psutil

from aesedge.bundle.checksums import remark_unwritable
from aesedge.bundle.llama_gguf import check_language_file
from aesedge.bundle.onnx_header import check_vision_file
from aesedge.errors import BundleFormatError, InferenceError, ModelLoadError
from aesedge.system.byte_sizes import size_text
from aesedge.system.paths import cache_folder, child_python_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

LoadStep = Literal["vision", "llm", "llm header"]
"""What the child does: run a vision graph, load a language model and let it answer, or only plan its memory."""

FOLDER = "proven"
_FORMAT = 1
_PACKAGES = ("llama-cpp-python", "onnxruntime", "onnxruntime-gpu")
_CHILD = "aesedge.engine.first_load_process"
_POLL_S = 0.02
_LEAST_S, _LEAST_BYTES_PER_S = 60.0, 20e6  # a slow disk, and other programs
_LEAST_MEMORY_BYTES, _MEMORY_PER_BYTE = 2 << 30, 6  # an fp16 graph takes 3.65 times its file while it loads
_ERRORS = {kind.__name__: kind for kind in (BundleFormatError, InferenceError, ModelLoadError)}
_log = logging.getLogger("aesedge")
_proven_here: set[str] = set()


class _ChildMessage(msgspec.Struct):
    """A line of the child."""

    begun: str = ""
    error: str = ""
    type: str = ""


class ModelFile(NamedTuple):
    """A model file to load."""

    step: LoadStep
    path: Path
    identity: str
    """Its SHA-256, or :func:`file_state` if it was not read."""


def file_state(path: Path) -> str:
    """Return path, size, times and inode of a file, which identify it without reading it."""
    found = path.stat()
    return json.dumps([str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino])


def check_files(files: Sequence[ModelFile]) -> None:
    """Check that files can be loaded, unless they were loaded before on this machine.

    Raises:
        BundleFormatError: a file is malformed.
        ModelLoadError: a runtime refuses it, or crashes.
        InferenceError: its output is not finite.
    """
    unknown = {_key(file): file for file in files if not is_known(file)}
    if not unknown:
        return
    for file in unknown.values():
        check_vision_file(file.path) if file.step == "vision" else check_language_file(file.path)
    _load_in_child(list(unknown.values()))
    for key in unknown:
        _note(key)


def is_known(file: ModelFile) -> bool:
    """Return whether a file was loaded before, by this process or on this machine."""
    key = _key(file)
    return key in _proven_here or _is_proven(key)


def note_loaded(files: Sequence[ModelFile]) -> None:
    """Remember files that were loaded or made here: they need no child process."""
    for file in files:
        _note(_key(file))


def _key(file: ModelFile) -> str:
    text = json.dumps([_FORMAT, file.step, file.identity, _versions()])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@cache
def _versions() -> list[str]:
    """Return the versions of the runtimes: another version may crash on a file that this one loads."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _is_proven(key: str) -> bool:
    try:
        return stat.S_ISREG((cache_folder() / FOLDER / key).lstat().st_mode)
    except OSError:
        return False


def _note(key: str) -> None:
    _proven_here.add(key)
    if _is_proven(key):
        return
    path = cache_folder() / FOLDER / key
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # not a regular file
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:  # another process was faster
        pass
    except OSError as error:
        remark_unwritable(cache_folder(), error.strerror or "unknown reason")


def _load_in_child(files: Sequence[ModelFile]) -> None:
    n_bytes = sum(file.path.stat().st_size for file in files)
    seconds = _LEAST_S + n_bytes / _LEAST_BYTES_PER_S
    memory = _LEAST_MEMORY_BYTES + _MEMORY_PER_BYTE * n_bytes
    # With PYTHONSAFEPATH the child finds nothing in the working folder.
    environment = {
        **os.environ,
        "PYTHONPATH": child_python_path(),
        "PYTHONSAFEPATH": "1",
        "GGML_NO_BACKTRACE": "1",
    }
    # A frozen program's executable is the program itself and no interpreter.
    interpreter = "" if getattr(sys, "frozen", False) else sys.executable
    command = [interpreter, "-m", _CHILD, *(part for file in files for part in (file.step, str(file.path)))]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(  # noqa: S603 (this interpreter, and a program of ours)
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=log
            )
        except OSError as error:
            _log.warning(
                "no child process can be started to try a file that was never loaded here (%s); it is loaded in "
                "this one",
                error.strerror or error,
            )
            return
        try:
            stopped = _stopped(process, seconds, memory)
        finally:
            process.kill()
            process.wait()
        _raise_child_error(files, _lines(out), _lines(log), stopped or _exit_text(process.returncode))


def _stopped(process: subprocess.Popen[bytes], seconds: float, memory: int) -> str:
    """Wait for the child; return why it must be stopped, or an empty text if it ended by itself."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            pass
        else:
            return ""
        if time.monotonic() > deadline:
            return f"it was not over after {seconds:.0f} s"
        try:
            if psutil.Process(process.pid).memory_info().rss > memory:
                return f"it took more than {size_text(memory)} of memory"
        except psutil.Error:
            continue


def _exit_text(code: int) -> str:
    return "" if code == 0 else f"signal {-code}" if code < 0 else f"exit code {code}"


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read(1 << 20).decode("utf-8", "replace").splitlines()


def _raise_child_error(files: Sequence[ModelFile], said: Sequence[str], log: Sequence[str], ended: str) -> None:
    """Raise the child's error, if there was one; it prints a line of JSON for each file begun and each file done."""
    current = files[0].path
    for line in said:
        try:
            found = msgspec.json.decode(line, type=_ChildMessage)
        except msgspec.MsgspecError:  # libraries write there too
            continue
        if found.error:
            raise _ERRORS.get(found.type, ModelLoadError)(found.error)
        current = next((file.path for file in files if str(file.path) == found.begun), current)
    if ended:
        reason = _reason(log)
        raise ModelLoadError(
            f"{current}: cannot be loaded: a process that tried it ended ({ended}){f': {reason}' if reason else ''}; "
            "export or install the bundle again"
        )


def _reason(log: Sequence[str]) -> str:
    """Return the most specific line of a process's log."""
    for pattern in (r"GGML_ASSERT\((.*)\) failed", r"what\(\):\s*(.*)", r"^(\w*Error\b.*)", r"(?i)^(.*\berror\b.*)"):
        for line in reversed(log):
            if match := re.search(pattern, line):
                return match[1].strip()[:200]
    return ""
