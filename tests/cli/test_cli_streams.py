"""The real command with streams and signals as shells leave them: full, closed, read no further, told to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has neither SIGPIPE nor /dev/full")

AESEDGE = f"{sys.executable} -m aesedge"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def shell(line: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which $AE is the command, and "$@" the arguments."""
    return subprocess.run(
        ["/bin/bash", "-c", line, "bash", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "AE": AESEDGE, **environment},
    )


@needs_full
@pytest.mark.parametrize("command", ["--version", "bench --help", "info", "bundles --json"])
def test_full_stdout_is_one_line_and_exit_1(command: str) -> None:
    done = shell(f"$AE {command} >/dev/full")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"stdout: cannot be written: No space left" in done.stderr


@needs_full
@pytest.mark.parametrize("command", ["score --json", "run --max-tokens 5"])
def test_nothing_counts_as_done_that_was_not_written(bundle_folder: Path, photo_path: Path, command: str) -> None:
    done = shell(f'$AE {command} --threads 1 "$@" >/dev/full', "--bundle", bundle_folder, photo_path, photo_path)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"stdout: cannot be written" in done.stderr


@needs_full
def test_full_stderr_changes_nothing(bundle_folder: Path, photo_path: Path) -> None:
    done = shell('$AE score --json --threads 1 "$@" 2>/dev/full', "--bundle", bundle_folder, photo_path, "none.jpg")
    assert done.returncode == 1
    assert [json.loads(line)["photo"] for line in done.stdout.splitlines()] == [str(photo_path), "none.jpg"]


@pytest.mark.parametrize(
    ("command", "closed", "code", "n_lines"),
    [
        ("score --json", "2>&-", 0, 1),
        ("score --json", "<&- 2>&-", 0, 1),
        ("score", "<&- >&- 2>&-", 0, 0),
        ("chat --json", "<&- 2>&-", 0, 0),
    ],
)
def test_closed_streams_are_the_null_device(
    bundle_folder: Path, photo_path: Path, command: str, closed: str, code: int, n_lines: int
) -> None:
    done = shell(f'$AE {command} --threads 1 "$@" {closed}', "--bundle", bundle_folder, photo_path)
    assert (done.returncode, done.stderr) == (code, b"")
    assert [json.loads(line)["photo"] for line in done.stdout.splitlines()] == [str(photo_path)] * n_lines


def test_no_stdin_is_no_photo(bundle_folder: Path) -> None:
    done = shell('$AE run --threads 1 "$@" <&-', "--bundle", bundle_folder)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"no photo" in done.stderr


def test_files_do_not_get_the_number_of_a_closed_stream(bundle_folder: Path, photo_path: Path, tmp_path: Path) -> None:
    """What is printed must not land in a file that was opened in the place of stdout."""
    seen = shell(f'exec >&- 2>&-; {sys.executable} -c "$1" score --threads 1 "${{@:2}}"', START_THAT_LISTS_FILES,
                 "--bundle", bundle_folder, photo_path, LIST=str(tmp_path / "list"))  # fmt: skip
    assert seen.returncode == 0
    assert (tmp_path / "list").read_text().split() == ["/dev/null", "/dev/null", "/dev/null"]


START_THAT_LISTS_FILES = """
import os, sys
from aesedge.cli import main
code = main()
with open(os.environ["LIST"], "w") as file:
    print(*(os.readlink(f"/proc/self/fd/{i}") for i in range(3)), file=file)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "command",
    ["score --json", "run --no-critique", "score 2>&1"],
)
def test_a_reader_that_goes_away_ends_the_command_by_sigpipe(
    bundle_folder: Path, photo_path: Path, command: str
) -> None:
    name, _, redirected = command.partition(" 2>")
    line = f'$AE {name} --threads 1 "$@" {redirected and "2>" + redirected} | head -1; echo "${{PIPESTATUS[0]}}"'
    done = shell(line, "--bundle", bundle_folder, *[photo_path] * 200)
    first, code = done.stdout.splitlines()
    assert (first != b"", code, done.stderr) == (True, b"141", b"")


def test_nobody_reads_at_all() -> None:
    done = shell('$AE info | true; echo "${PIPESTATUS[0]}"')
    assert (done.stdout in {b"141\n", b"0\n"}, done.stderr) == (True, b"")  # 0: all of it fitted into the pipe before


def test_the_reader_of_a_running_text_goes_away(bundle_folder: Path, photo_path: Path) -> None:
    done = shell('$AE run --max-tokens 400 --threads 1 "$@" | head -c 30 | wc -c; echo "${PIPESTATUS[0]}"',
                 "--bundle", bundle_folder, photo_path)  # fmt: skip
    assert (done.stdout.split(), done.stderr) == ([b"30", b"141"], b"")


def started(out: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """Start the command with its stdout in a file, so that no line is lost in a buffer of this process."""
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "aesedge", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.PIPE,
        )


def ended(process: subprocess.Popen[bytes]) -> str:
    err = process.communicate(timeout=30)[1].decode()
    assert "Traceback" not in err
    assert "ignored" not in err
    return err


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_command_and_leave_nothing_behind(
    bundle_folder: Path, photo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    if signal.getsignal(signum) is signal.SIG_IGN:
        pytest.skip("nohup: the signal is ignored here, and stays so in programs that are started")
    monkeypatch.setenv("AESEDGE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    options = ["--json", "--threads", "1", "--bundle", bundle_folder]
    with started(out, "score", "--no-attributes", *options, *[photo_path] * 3000) as process:
        wait_until(out.read_bytes)
        process.send_signal(signum)
        err = ended(process)
    assert process.returncode == -signum
    lines = out.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["photo"] for line in lines] == [str(photo_path)] * len(lines)
    assert err.splitlines()[-1].startswith(f"{len(lines)} of 3000 photos, ")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in {".part", ".alive"}]


def wait_until(found: Callable[[], object]) -> None:
    for _ in range(600):
        if found():
            return
        time.sleep(0.05)
    raise AssertionError("nothing came within 30 s")


def test_a_signal_ends_a_session_too(bundle_folder: Path, photo_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(out, "chat", "--max-tokens", 400, "--threads", 1, "--bundle", bundle_folder, photo_path) as process:
        assert process.stdin is not None
        process.stdin.write(b"What is this?\nAnd this?\n")
        process.stdin.flush()
        wait_until(out.read_bytes)
        process.terminate()
        ended(process)
    assert process.returncode == -signal.SIGTERM


def test_a_signal_while_a_bundle_is_loaded(bundle_folder: Path, photo_path: Path, tmp_path: Path) -> None:
    with started(tmp_path / "out", "score", "--threads", 1, "--bundle", bundle_folder, photo_path) as process:
        time.sleep(0.4)
        process.terminate()
        ended(process)
    assert process.returncode == -signal.SIGTERM


def test_signals_that_are_ignored_stay_so(bundle_folder: Path, photo_path: Path) -> None:
    """``nohup`` and the background of a shell ignore signals for what they start."""
    done = shell('trap "" HUP TERM; $AE score --json --threads 1 "$@" & p=$!; sleep 1; kill -HUP $p; kill -TERM $p; '
                 "wait $p", "--bundle", bundle_folder, photo_path)  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout)["photo"] == str(photo_path)


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii", "utf-16", "C locale"])
def test_any_name_in_any_encoding(bundle_folder: Path, photo_path: Path, tmp_path: Path, encoding: str) -> None:
    names = [b"caf\xe9.png", "новый 📷.png".encode(), b"line\nbreak.png", b"esc\x1b[31m.png"]
    folder = tmp_path / "names"
    folder.mkdir()
    for name in names:
        (folder / os.fsdecode(name)).symlink_to(photo_path)
    own = {"LC_ALL": "C"} if encoding == "C locale" else {"PYTHONIOENCODING": encoding}
    command = "$AE score --no-attributes --quiet --threads 1"
    done = shell(f'{command} "$@"', "--bundle", bundle_folder, folder, **own)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("utf-8" if encoding == "C locale" else encoding.partition(":")[0])
    assert len(text.splitlines()) == len(names)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "caf\\xe9.png" in text
    done = shell(f'{command} --json "$@"', "--bundle", bundle_folder, folder, **own)
    found = [json.loads(line.decode("utf-8")) for line in done.stdout.splitlines()]
    paths = {unquote_to_bytes(line.get("photo_bytes", quote(line["photo"]))) for line in found}
    assert paths == {os.fsencode(folder) + b"/" + name for name in names}
