"""OpenMP's threads spin while the cores are ours, and sleep soon beside other programs; the user's choice wins."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aesedge.system import openmp_waiting as module
from aesedge.system.machine import n_cores
from aesedge.system.openmp_waiting import USERS_CHOICE, OpenmpWaiting

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP is what llama.cpp is built with on Linux")
N_WAITS = 300
BUSY = "import os, sys; os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(sys.argv[1])]})\nwhile True: pass"
PROGRAM = f"""
import os, threading, time, sys
os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:2]))
from pathlib import Path
from aesedge.llm import binding
from aesedge.system import openmp_waiting as module
from aesedge.system.openmp_waiting import openmp_waiting

binding.load()
runtime = module._runtimes()[0]
nothing = runtime.omp_in_parallel

def sleeps():
    # A team of two that meets {N_WAITS} times, 100 microseconds apart: how often did its second thread go to sleep?
    runtime.GOMP_parallel(nothing, None, 2, 0)
    before = voluntary()
    for _ in range({N_WAITS}):
        runtime.GOMP_parallel(nothing, None, 2, 0)
        until = time.perf_counter() + 100e-6
        while time.perf_counter() < until:
            pass
    return voluntary() - before

def voluntary():
    mine = f"/proc/self/task/{{threading.get_native_id()}}/status"
    total = 0
    for path in Path("/proc/self/task").glob("*/status"):
        text = path.read_text()
        if str(path) != mine and "openmp-team" not in text:
            total += int(text.split("voluntary_ctxt_switches:")[1].split()[0])
    return total

print("ready", flush=True)
for line in sys.stdin:
    if line == "work\\n":
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            openmp_waiting.adapt(2)
            time.sleep(0.01)
    else:
        openmp_waiting._choose(float(line))
        time.sleep(0.2)
    print(openmp_waiting.sleeps_soon, 0 if line == "work\\n" else sleeps(), flush=True)
"""


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={name: value for name, value in os.environ.items() if name not in USERS_CHOICE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def after(process: subprocess.Popen[str], order: str) -> tuple[bool, int]:
    """Return whether threads sleep soon, and how often one slept, after some work or when told what others take."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{order}\n")
    process.stdin.flush()
    sleeps_soon, n = process.stdout.readline().split()
    return sleeps_soon == "True", int(n)


needs_two_cores = pytest.mark.skipif(n_cores() < 2, reason="one core has nobody to wait for")


@needs_two_cores
def test_threads_sleep_soon_beside_busy_programs(program: subprocess.Popen[str]) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", BUSY, str(i)]) for i in range(2)]
    try:
        # A machine may take its time to start them.
        assert any(after(program, "work")[0] for _ in range(4))
    finally:
        for process in busy:
            process.kill()
            process.wait()


@needs_two_cores
def test_openmp_follows_the_choice_and_goes_back(program: subprocess.Popen[str]) -> None:
    found = [after(program, taken) for taken in ("0", "1", "0", "1", "0")]
    assert [sleeps_soon for sleeps_soon, _ in found] == [False, True, False, True, False]
    spinning, asleep = [n for _, n in found[::2]], [n for _, n in found[1::2]]
    assert min(asleep) > 2 * max(spinning), found


@pytest.mark.parametrize(
    ("n_threads", "others", "wanted"),
    [
        (2, [0.0, 0.1, 0.29], False),
        (2, [0.31], True),
        (2, [1.0, 0.2], True),  # between the bounds it stays as it is
        (2, [1.0, 0.2, 0.1], False),
        (1, [1.0], False),  # the other core is free for it
        (1, [1.4], True),
        (2, [-0.1], False),
    ],
)
def test_what_others_take_of_two_cores(
    monkeypatch: pytest.MonkeyPatch, n_threads: int, others: list[float], wanted: bool
) -> None:
    at, busy, own = time.monotonic() - 1000, 50.0, 7.0
    looks = [(at, busy, own)]
    for taken in others:
        at, busy, own = at + 2, busy + 2 * (taken + 0.5), own + 2 * 0.5
        looks.append((at, busy, own))
    monkeypatch.setattr(module, "_look", iter(looks).__next__)
    monkeypatch.setattr(module, "n_cores", lambda: 2)
    for name in USERS_CHOICE:
        monkeypatch.delenv(name, raising=False)
    waiting = OpenmpWaiting()
    for _ in looks:
        waiting.adapt(n_threads)
    assert waiting.sleeps_soon == wanted
    waiting._choose(0)


@pytest.mark.parametrize(
    ("variable", "value"), [("GOMP_SPINCOUNT", "77"), ("OMP_WAIT_POLICY", "passive"), ("KMP_BLOCKTIME", "0")]
)
def test_the_users_own_setting_wins(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    waiting = OpenmpWaiting()
    assert not waiting.enabled
    assert str(waiting) == f"{variable}={value}"


def test_the_card_says_how_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in USERS_CHOICE:
        monkeypatch.delenv(name, raising=False)
    waiting = OpenmpWaiting()
    assert str(waiting) == "spinning, sleeping soon beside other programs"
    waiting.enabled = False
    assert str(waiting) == "OpenMP's own default"
