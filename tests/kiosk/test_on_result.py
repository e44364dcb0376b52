"""The operator's command: the result as JSON on its standard input, never through a shell, ended in time."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from aesedge.kiosk.on_result import ResultCommand

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the commands are POSIX's")
RESULT = {"score": 7.5, "critique": "It's $(touch harmed) `touch harmed` ; \u00e9"}


def run(command: list[str], *results: dict[str, object], limit_s: float = 20) -> float:
    """Hand results over, and wait until all commands have ended; returns how long it took."""

    async def all_of_them() -> None:
        handing = ResultCommand(command, limit_s)
        for result in results:
            handing.start(result)
        while handing._tasks:
            await asyncio.gather(*handing._tasks)

    began = time.monotonic()
    asyncio.run(all_of_them())
    return time.monotonic() - began


def test_the_result_is_a_line_of_json(tmp_path: Path) -> None:
    run(["tee", str(tmp_path / "out")], RESULT)
    assert json.loads((tmp_path / "out").read_text()) == RESULT


def test_no_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(["tee", "out", "$(touch harmed)", "; touch harmed"], RESULT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["$(touch harmed)", "; touch harmed", "out"]


def test_one_after_the_other_and_not_too_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    script = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read())"
    run([sys.executable, "-c", script, str(tmp_path / "out")], *({"n": i} for i in range(7)))
    assert [json.loads(line)["n"] for line in (tmp_path / "out").read_text().splitlines()] == [0, 1, 2, 3]
    assert caplog.text.count("was left out") == 3


def test_it_is_ended_with_all_that_it_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    script = "import subprocess, sys, time\nsubprocess.Popen(['sleep', '4321'])\ntime.sleep(4321)"
    assert run([sys.executable, "-c", script], RESULT, limit_s=0.7) < 10
    assert "longer than 0.7 s" in caplog.text
    assert RESULT["critique"] not in caplog.text
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "4321"]]
    assert left == []


@pytest.mark.parametrize(
    ("command", "told"),
    [(["false"], "ended with 1"), (["/no/such/program"], "cannot be run"), (["true"], "")],
)
def test_what_fails_is_told_without_the_text(command: list[str], told: str, caplog: pytest.LogCaptureFixture) -> None:
    run(command, {"critique": "x" * 500_000})  # which `true` does not read
    assert told in caplog.text
    assert "xxx" not in caplog.text
    assert bool(caplog.text) == bool(told)


def test_without_a_command_nothing_runs() -> None:
    assert run([], RESULT) < 1
