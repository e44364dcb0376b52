"""Exit codes as docs/cli.md has them, and JSON of every command: one object on each line, written in one way."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import bench_results
import cli_runner
import msgspec
import pytest
from cli_runner import Cli, photos

from aesedge import errors
from aesedge.bench.result import save_result
from aesedge.cli import main

if TYPE_CHECKING:
    from pathlib import Path

cli = cli_runner.cli  # fixture
IN_THE_MIDDLE = {"DownloadError", "InferenceError", "ParityError"}


def made(name: str) -> errors.AesedgeError:
    kind = getattr(errors, name)
    error: errors.AesedgeError = kind("a.heic", "photo") if name == "MissingExtraError" else kind("what is wrong")
    return error


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        *((made(name), 1 if name in IN_THE_MIDDLE else 2) for name in errors.__all__),
        (OSError(errno.EIO, "Input/output error", "/mnt/a"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_code(
    raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> None:
        raise raised

    monkeypatch.setattr(sys.modules["aesedge.cli.bundles"], "open_bundle", fails)
    assert main(["info"]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 0 if code == 130 else 1)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["score", "GOOD"], 0),
        (["run", "--no-critique", "GOOD"], 0),
        (["score", "--quiet", "none.jpg", "GOOD"], 1),
        (["score", "none.jpg"], 1),
        (["run", "none.jpg"], 1),
        (["chat", "none.jpg"], 1),
        (["doctor", "--memory", "1MB"], 1),
        (["doctor", "--reuse", "--photo", "none.jpg"], 2),
        (["doctor", "--photo", "GOOD"], 2),
        (["bench", "--photo", "none.jpg"], 2),
        (["bench", "--photo", "EMPTY"], 2),
        (["tune", "--quality", "EMPTY"], 2),
        (["score", "EMPTY"], 2),
        (["run", "EMPTY"], 2),
        (["score"], 2),
        (["run"], 1),  # nothing on stdin
        (["score", "--gguf", "q9", "GOOD"], 2),
        (["score", "--mood", "GOOD"], 2),
        (["score", "-b", "none", "GOOD"], 2),
        (["info", "none"], 2),
        (["verify", "none"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_call_has_its_code(cli: Cli, tmp_path: Path, arguments: list[str], code: int) -> None:
    (good,) = photos(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    places = {"GOOD": str(good), "EMPTY": str(tmp_path / "empty")}
    command, *rest = (places.get(argument, argument) for argument in arguments)
    found = cli(command, *rest, load=command not in {"info", "verify", "tune"})
    assert found[0] == code
    assert len(found[2].splitlines()) == (code != 0) or command == "doctor"


@pytest.mark.parametrize(
    ("arguments", "n_lines"),
    [
        (["run", "--max-tokens", "2", "GOOD", "none.jpg"], 2),
        (["score", "GOOD", "none.jpg"], 2),
        (["doctor"], 1),
        (["bundles"], 1),
        (["info", "BUNDLE"], 1),
        (["info", "pocket", "--card"], 1),
        (["verify", "BUNDLE"], 3),
        (["cache"], 1),
        (["tune", "--forget"], 1),
        (["bench", "show", "RESULT"], 1),
        (["bench", "show", "RESULT", "-o", "WRITTEN"], 1),
        (["bench", "show", "RESULT", "--format", "json"], 1),
        (["bench", "show", "RESULT", "--format", "jsonl"], 25),
        (["bench", "compare", "RESULT", "RESULT"], 1),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_json_is_one_object_a_line_in_one_spelling(
    cli: Cli, tmp_path: Path, bundle_folder: Path, arguments: list[str], n_lines: int
) -> None:
    (good,) = photos(tmp_path, 1)
    save_result(bench_results.result(), tmp_path / "result.json")
    places = {
        "GOOD": str(good),
        "BUNDLE": str(bundle_folder),
        "RESULT": str(tmp_path / "result.json"),
        "WRITTEN": str(tmp_path / "result.csv"),
    }
    command, *rest = (places.get(argument, argument) for argument in arguments)
    asked = [] if "--format" in rest else ["--json"]
    _, out, _ = cli(command, *rest, *asked, load=command in {"run", "score", "doctor"})
    lines = out.splitlines()
    assert len(lines) == n_lines
    for line in lines:
        assert isinstance(json.loads(line), dict)
        assert line.encode() == msgspec.json.encode(msgspec.json.decode(line))


INTERRUPTED_AT = """
import atexit, os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
where = sys.argv.pop(1)

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == where:
            os.kill(os.getpid(), signal.SIGINT)

if where == "exit":
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
runpy.run_module("aesedge", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("where", "arguments"),
    [
        ("aesedge.cli", ["--version"]),
        ("typer", ["serve", "--help"]),
        ("exit", ["--version"]),
        ("uvicorn", ["serve", "--port", "0"]),
    ],
)
def test_ctrl_c_while_modules_are_imported_shows_no_traceback(where: str, arguments: list[str]) -> None:
    command = [sys.executable, "-c", INTERRUPTED_AT, where, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {130, -signal.SIGINT}
    assert done.stderr.strip() == ""
