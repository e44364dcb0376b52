"""A server from its start to its end: loading, idle, signals, systemd, the command."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from serving import KEY, Answer, Running, jpeg, serving
from test_admission import ENDLESS, begin, wait_until

from aesedge.errors import BundleError, UsageError
from aesedge.serve import server
from aesedge.serve.api_error import ApiError
from aesedge.serve.model_host import ModelHost
from aesedge.serve.sd_notify import unit_file, watchdog_s
from aesedge.system import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Thing:
    """Counts how often it is open."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


def test_model_is_unloaded_when_idle_and_never_under_a_user() -> None:
    """A server that unloaded while a request came used freed memory (CVE-2026-43631)."""
    made: list[Thing] = []

    def load() -> Thing:
        made.append(Thing())
        return made[-1]

    async def ask(host: ModelHost[Thing], i: int) -> None:
        await asyncio.sleep(i % 7 * 0.002)
        async with host.use() as (thing, _load_s):
            await asyncio.sleep(0.001 * (i % 3))
            assert thing.is_open

    async def run() -> None:
        host = ModelHost(load, idle_s=0.001)
        with pytest.raises(ApiError) as refused:
            host.check_ready()
        assert refused.value.status == 503
        await host.load()
        host.check_ready()
        for _ in range(30):
            await asyncio.gather(*(ask(host, i) for i in range(10)))
            await asyncio.sleep(0.004)
        assert len(made) > 2
        await host.close()
        assert not any(thing.is_open for thing in made)

    asyncio.run(run())


def test_idle_server_loads_again() -> None:
    with serving(idle_s=0.05) as running:
        first = running.photo(jpeg(1)).json()
        wait_until(lambda: running.session is None)
        assert running.ask("GET", "/ready").status == 200
        assert running.ask("GET", "/metrics").body.count(b'model_loaded{model_name="pocket"} 0') == 1
        again = running.photo(jpeg(1)).json()
    assert (again["score"], again["critique"]) == (first["score"], first["critique"])


def test_draining_ends_at_a_sentence() -> None:
    with serving(drain_s=0.3) as running:
        answers: list[Answer] = []
        body = {**ENDLESS, "stream": False, "response_format": None, "max_tokens": 900}
        ask = threading.Thread(target=lambda: answers.append(running.ask("POST", "/v1/chat/completions", body)))
        ask.start()
        wait_until(lambda: bool(running.session.running))
        running.running.stop()
        wait_until(lambda: running.service.admission.closed)
        refused = running.chat("Hi")
        assert (refused.status, refused.json()["error"]["code"]) == (503, "draining")
        assert running.ask("GET", "/ready").status == 503
        assert running.ask("GET", "/health").status == 200
        ask.join()
    assert answers[0].status == 200
    assert answers[0].json()["choices"][0]["finish_reason"] in {"length", "stop"}


def test_a_bundle_that_cannot_be_loaded_ends_it(tmp_path: Path) -> None:
    with pytest.raises((BundleError, UsageError)), serving(options={"threads": 10**6}):
        pass


def test_a_port_that_is_taken_is_told(served: Running, capfd: pytest.CaptureFixture[str]) -> None:
    from aesedge.cli import main

    assert main(["serve", "--port", str(served.port), "--threads", "1"]) == 2
    told = capfd.readouterr().err
    assert f"port {served.port}" in told
    assert "Traceback" not in told


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command; whatever happens, it has ended after the block."""
    command = [sys.executable, "-m", "aesedge", "serve", "--port", "0", "--threads", "1", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ends(process: subprocess.Popen[str], within_s: float = 20) -> tuple[int, str]:
    _, told = process.communicate(timeout=within_s)
    assert "Traceback" not in told
    return process.returncode, told


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_command_answers_until_a_signal(signum: int) -> None:
    with started() as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Open http://127.0.0.1:")
        running = Running(line.split()[1], None)
        assert running.photo(jpeg(1)).status == 200
        with begin(running, ENDLESS) as stream:
            assert b"200 OK" in stream.recv(65536)
            process.send_signal(signum)
            time.sleep(0.2)
            process.send_signal(signum)  # the second one waits for nobody
            code, told = ends(process, 15)
    assert code == 0
    assert "POST /v1/photo 200" in told
    assert "127.0.0.1" not in told  # no line says who asked


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd's sockets are Unix's")
def test_systemd_is_told(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(address)
        line.settimeout(20)
        with started("--quiet", NOTIFY_SOCKET=address, WATCHDOG_USEC="200000") as process:
            assert [line.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            process.send_signal(signal.SIGTERM)
            said = line.recv(99)
            while said == b"WATCHDOG=1":
                said = line.recv(99)
            assert said == b"STOPPING=1"
            assert ends(process) == (0, "")


def test_watchdog_beats_only_while_the_engine_answers(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("aesedge.serve.server.notify", said.append)
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert watchdog_s() == 0.02
    go_on = threading.Event()
    served.session.internals.scheduler.call(lambda: go_on.wait(10))
    beating = asyncio.run_coroutine_threadsafe(served.running._beat(), served.running._loop)
    time.sleep(0.2)
    assert said == []
    go_on.set()
    wait_until(lambda: "WATCHDOG=1" in said)
    beating.cancel()


def test_unit_file_is_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aesedge.cli import main

    key = tmp_path / "key"
    key.write_text(f"# of the house\n{KEY}\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["serve", "--unit", "--host", "::", "--key-file", "key", "--drain", "10s"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/aesedge", *arguments])
    assert main(arguments) == 0
    unit = capsys.readouterr().out
    assert f"ExecStart=/usr/bin/aesedge serve --host :: --key-file {key} --drain 10s\n" in unit
    assert "Type=notify\n" in unit
    assert "TimeoutStopSec=25\n" in unit
    assert "IPAddressAllow=localhost" not in unit
    assert "IPAddressAllow=localhost" in unit_file(["aesedge"], stop_s=1, is_local=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "--key-file"),  # noqa: S104
        (["--host", "example.org"], "is no address"),
        (["--key-file", "nowhere"], "nowhere: cannot be read"),
        (["--key-file", "empty"], "empty: write keys"),
        (["--key-file", "short"], "short: write keys"),
        (["--origin", "*"], "--origin '*'"),
        (["--origin", "photos.example"], "is no address of a site"),
        (["--origin", "https://a.example/path"], "without a path"),
        (["--idle", "soon"], "--idle 'soon' is no time"),
        (["--drain", "-1s"], "--drain '-1s' is no time"),
        (["--port", "70000"], "--port"),
        (["--photos", "9"], "--photos"),
        (["--bundle", "nowhere"], "nowhere"),
    ],
)
def test_wrong_calls_are_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aesedge.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("# nothing\n\n")
    (tmp_path / "short").write_text("abc\n")
    assert main(["serve", "--port", "0", *arguments]) == 2
    out, err = capsys.readouterr()
    assert told in err
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("arguments", "small_bytes", "n_photos"), [([], 10**9, 2), ([], 0, 4), (["--photos", "3"], 10**9, 3)]
)
def test_a_small_model_works_on_two_photos(
    arguments: list[str], small_bytes: int, n_photos: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aesedge.cli import main

    loaded: list[int] = []
    monkeypatch.setattr(machine, "_SMALL_MODEL_BYTES", small_bytes)
    monkeypatch.setattr(
        sys.modules["aesedge.cli.serve"], "load_model", lambda _loading, *, photos, quiet: loaded.append(photos)
    )
    monkeypatch.setattr(server, "serve", lambda _settings, _line, _bundle, load, _ready: load())
    assert main(["serve", "--port", "0", *arguments]) == 0
    assert loaded == [n_photos]


def test_answers_end_at_the_deadline() -> None:
    asked = {name: ENDLESS[name] for name in ("response_format", "max_tokens")}
    with serving(deadline_s=0.5) as running:
        found = running.chat(jpeg(1), "Describe it.", **asked).json()
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["aesedge"]["finish_reason"] == "deadline"
    assert found["aesedge"]["timings"]["total_s"] < 2
