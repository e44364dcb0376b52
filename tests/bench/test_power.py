"""Watts of counters that we lay out and of commands that we write: real code on any machine."""

from __future__ import annotations

import os
import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest

from aesedge.bench.power import Power, PowerMeter

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="lays out files of Linux, and scripts for a shell")

SMI = """case "$*" in *--query-gpu=name,index,power.draw*) ;; *) exit 1;; esac
echo 'NVIDIA H100, 0, 300.5'; echo 'NVIDIA H100, 1, 99.5'; echo 'Old, 2, [N/A]'"""
GPUS = "nvidia-smi 0: NVIDIA H100 + nvidia-smi 1: NVIDIA H100"


def domain(root: Path, folder: str, name: str, energy: str = "1000000", most: str = "262143328850") -> Path:
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True)
    for file, text in {"name": name, "energy_uj": energy, "max_energy_range_uj": most}.items():
        (path / file).write_text(text + "\n")
    return path / "energy_uj"


@pytest.fixture(autouse=True)
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which commands are found: no GPU of this machine is asked."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for tool in ("sleep", "true"):
        (folder / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def measured(root: Path, seconds: float = 0.0, system: str = "Linux", **energy: Path) -> tuple[Power, float]:
    """Return what a meter found while counters were set to new values, and how long that was."""
    meter, began = PowerMeter(root, system), time.monotonic()
    assert meter.power.why_not == "nothing was measured yet"
    with meter:
        time.sleep(seconds)
        for value, path in energy.items():
            path.write_text(value.removeprefix("n"))
    return meter.power, time.monotonic() - began


def test_packages_are_added_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    package, other = (domain(tmp_path, f"intel-rapl:{i}", f"package-{i}") for i in (0, 1))
    domains = {"intel-rapl:0:0": "core", "intel-rapl:2": "psys", "intel-rapl-mmio:0": "package-0"}
    n4000000, n2000000, *others = package, other, *(domain(tmp_path, *item) for item in domains.items())
    with PowerMeter(tmp_path, "Linux") as meter:
        time.sleep(0.1)
        n4000000.write_text("4000000")
        n2000000.write_text("2000000")
        for path in others:
            path.write_text("900000000")
    assert meter.power.source == "RAPL package-0 + RAPL package-1"
    assert meter.power.watts is not None
    assert 4.0 / 5 < meter.power.watts <= 4.0 / 0.1
    assert meter.power.why_not == ""


def test_a_counter_that_wraps_around(tmp_path: Path) -> None:
    energy = domain(tmp_path, "intel-rapl:0", "package-0", energy="9000000", most="10000000")
    power, took = measured(tmp_path, 0.2, n500000=energy)
    assert power.watts is not None
    assert 1.5 / took <= power.watts <= 1.5 / 0.2


@pytest.mark.parametrize("garbage", ["", "nonsense", "1.5", "9" * 5000])
def test_garbage_in_a_counter_is_no_error(tmp_path: Path, garbage: str) -> None:
    energy = domain(tmp_path, "intel-rapl:0", "package-0", most=garbage)
    with PowerMeter(tmp_path, "Linux") as meter:
        energy.write_text(garbage)
    assert meter.power.watts in {None, 0.0}
    power, _ = measured(tmp_path)
    assert (power.watts, power.source) == (None, "")
    assert "only root may read package-0" in power.why_not


@pytest.mark.parametrize(
    ("script", "watts"),
    [
        (SMI, 400.0),
        ("echo 'NVIDIA H100, 0, 300'", 300.0),
        ("exit 9", None),
        ("echo No devices were found", None),
        ("echo 'x, 0, [N/A]'", None),
        ("printf '\\377\\n,,,'", None),
    ],
)
def test_gpus_are_asked_again_and_again_or_it_says_why_not(
    tmp_path: Path, commands: Path, script: str, watts: float | None
) -> None:
    write(commands / "nvidia-smi", script)
    power, took = measured(tmp_path, 0.2)
    assert power.watts == (None if watts is None else pytest.approx(watts))
    assert took < 1.5  # it does not wait for a command that has ended
    assert ("nvidia-smi: no power was told" in power.why_not) == (watts is None)


def test_processor_and_gpu_together(tmp_path: Path, commands: Path) -> None:
    write(commands / "nvidia-smi", SMI)
    power, _ = measured(tmp_path, 0.1, n11000000=domain(tmp_path, "intel-rapl:0", "package-0"))
    assert power.source == f"RAPL package-0 + {GPUS}"
    assert power.watts is not None
    assert power.watts > 400 + 10 / 2


def test_a_machine_without_sources_says_why(tmp_path: Path) -> None:
    power, _ = measured(tmp_path)
    assert (power.watts, power.source) == (None, "")
    assert "RAPL: this machine has none" in power.why_not
    assert "nvidia-smi" in power.why_not
    assert measured(tmp_path, system="Windows")[0].why_not.startswith("nvidia-smi")


def test_a_command_that_hangs_is_left_behind(tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aesedge.bench.power._ANSWER_WITHIN_S", 0.2)
    write(commands / "nvidia-smi", "echo $$ > " + str(tmp_path / "pid") + "; trap '' TERM; exec sleep 30")
    before = threading.active_count()
    power, took = measured(tmp_path, 0.1)
    assert power.watts is None
    assert took < 3
    assert threading.active_count() == before
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_error_inside_goes_through(tmp_path: Path, commands: Path) -> None:
    write(commands / "nvidia-smi", SMI)
    meter = PowerMeter(tmp_path, "Linux")
    with pytest.raises(ZeroDivisionError), meter:
        raise ZeroDivisionError
    assert meter.power.watts == 400.0


def test_powermetrics_runs_where_sudo_needs_no_password(tmp_path: Path, commands: Path) -> None:
    write(commands / "sudo", "exit 1")
    power, _ = measured(tmp_path, system="Darwin")
    assert power.watts is None
    assert "password" in power.why_not
    write(commands / "sudo", '[ "$1" = -n ] || exit 1; shift; exec "$@"')
    lines = ["*** Sampled system activity ***", "CPU Power: 4100 mW", "GPU Power: 900 mW", "Combined Power: 5000 mW"]
    write(commands / "powermetrics", "; ".join(f"echo '{line}'" for line in lines))
    power, _ = measured(tmp_path, 0.2, "Darwin")
    assert power.watts == pytest.approx(5.0)
    assert power.source == "powermetrics CPU + powermetrics GPU"


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with PowerMeter() as meter:
        time.sleep(0.1)
    assert (meter.power.watts is None) == (meter.power.source == "")
    assert meter.power.source or meter.power.why_not
    assert meter.power.watts is None or 0 < meter.power.watts < 20_000
