"""Watts of counters that we lay out and of commands that we write: real code, and no machine that must have them."""

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

RAPL = "sys/class/powercap"


def domain(root: Path, folder: str, name: str, energy: str = "1000000", most: str = "262143328850") -> Path:
    path = root / RAPL / folder
    path.mkdir(parents=True)
    for file, text in {"name": name, "energy_uj": energy, "max_energy_range_uj": most}.items():
        (path / file).write_text(text + "\n")
    return path / "energy_uj"


@pytest.fixture(autouse=True)
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which commands are found: no GPU of the machine that tests is asked."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for tool in ("sleep", "true"):
        (folder / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def measured(meter: PowerMeter, seconds: float = 0.0) -> Power:
    with meter:
        time.sleep(seconds)
    return meter.power


def test_packages_are_added_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0")
    other = domain(tmp_path, "intel-rapl:1", "package-1")
    core = domain(tmp_path, "intel-rapl:0:0", "core")
    whole = domain(tmp_path, "intel-rapl:2", "psys")
    again = domain(tmp_path, "intel-rapl-mmio:0", "package-0")
    with PowerMeter(tmp_path, "Linux") as meter:
        time.sleep(0.1)
        package.write_text("4000000")
        other.write_text("2000000")
        for path in (core, whole, again):
            path.write_text("900000000")
    power = meter.power
    assert power.joules == 4.0
    assert power.source == "RAPL package-0 + RAPL package-1"
    assert power.watts is not None
    assert 4.0 / 5 < power.watts <= 4.0 / 0.1
    assert power.parts["RAPL package-0"] == pytest.approx(power.watts * 3 / 4)
    assert power.why_not == ""


def test_a_counter_that_begins_again(tmp_path: Path) -> None:
    energy = domain(tmp_path, "intel-rapl:0", "package-0", energy="9000000", most="10000000")
    with PowerMeter(tmp_path, "Linux") as meter:
        energy.write_text("500000")
    assert meter.power.joules == 1.5


def test_a_counter_that_begins_again_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aesedge.bench.power._READ_EVERY_S", 0.02)
    energy = domain(tmp_path, "intel-rapl:0", "package-0", energy="9000000", most="10000000")
    with PowerMeter(tmp_path, "Linux") as meter:
        for value in ("1000000", "8000000", "1000000"):
            new = tmp_path / "new"
            new.write_text(value)
            new.replace(energy)  # at once: a reading between emptying and writing would see nothing
            time.sleep(0.3)
    assert meter.power.joules == 2 + 7 + 3


@pytest.mark.parametrize("garbage", ["", "nonsense", "1.5", "9" * 5000])
def test_garbage_in_a_counter_is_never_an_error(tmp_path: Path, garbage: str) -> None:
    energy = domain(tmp_path, "intel-rapl:0", "package-0", most=garbage)
    with PowerMeter(tmp_path, "Linux") as meter:
        energy.write_text(garbage)
    assert meter.power.joules in {None, 0.0}
    power = measured(PowerMeter(tmp_path, "Linux"))
    assert (power.watts, power.source) == (None, "")
    assert "only root may read package-0" in power.why_not


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read everything")
def test_a_counter_that_only_root_may_read(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0").chmod(0)
    power = measured(PowerMeter(tmp_path, "Linux"))
    assert power.watts is None
    assert "only root may read" in power.why_not


def test_a_machine_that_tells_nothing_says_why(tmp_path: Path) -> None:
    power = measured(PowerMeter(tmp_path, "Linux"))
    assert power == Power(None, None, "", power.why_not)
    assert "RAPL: this machine has none" in power.why_not
    assert "nvidia-smi" in power.why_not
    assert measured(PowerMeter(tmp_path, "Windows")).why_not.startswith("nvidia-smi")


SMI = """case "$*" in *--query-gpu=index,name,power.draw*--loop-ms=*) ;; *) exit 1;; esac
while :; do echo '0, NVIDIA H100, 300.5'; echo '1, NVIDIA H100, 99.5'; echo '2, Old, [N/A]'; sleep 0.05; done"""


def test_gpus_are_asked_again_and_again(tmp_path: Path, commands: Path) -> None:
    write(commands / "nvidia-smi", SMI)
    power = measured(PowerMeter(tmp_path, "Linux"), 0.3)
    assert power.watts == pytest.approx(400.0)
    assert power.joules is not None
    assert 400 * 0.3 <= power.joules < 400 * 3
    assert power.parts == pytest.approx({"nvidia-smi 0: NVIDIA H100": 300.5, "nvidia-smi 1: NVIDIA H100": 99.5})
    assert power.why_not == ""


def test_a_short_time_has_a_value_too(tmp_path: Path, commands: Path) -> None:
    write(commands / "nvidia-smi", "echo '0, NVIDIA H100, 300'; exec sleep 30")
    assert measured(PowerMeter(tmp_path, "Linux")).watts == pytest.approx(300)


def test_processor_and_gpu_together(tmp_path: Path, commands: Path) -> None:
    write(commands / "nvidia-smi", SMI)
    energy = domain(tmp_path, "intel-rapl:0", "package-0")
    with PowerMeter(tmp_path, "Linux") as meter:
        time.sleep(0.1)
        energy.write_text("11000000")
    power = meter.power
    assert power.source == "RAPL package-0 + nvidia-smi 0: NVIDIA H100 + nvidia-smi 1: NVIDIA H100"
    assert power.watts == pytest.approx(sum(power.parts.values()))
    assert power.joules is not None
    assert power.joules > 10


@pytest.mark.parametrize(
    "script", ["exit 9", "echo No devices were found", "echo '0, x, [N/A]'", "printf '\\377\\n,,,'"]
)
def test_an_nvidia_smi_without_power_says_why(tmp_path: Path, commands: Path, script: str) -> None:
    write(commands / "nvidia-smi", script)
    began = time.monotonic()
    power = measured(PowerMeter(tmp_path, "Linux"))
    assert time.monotonic() - began < 1.5  # it has ended: nobody waits for it
    assert power.watts is None
    assert "nvidia-smi: no power was told" in power.why_not


def test_an_nvidia_smi_that_hangs_is_left_behind(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aesedge.bench.power._FIRST_WITHIN_S", 0.2)
    monkeypatch.setattr("aesedge.bench.power._END_WITHIN_S", 0.2)
    write(commands / "nvidia-smi", "trap '' TERM; exec sleep 30")
    began = time.monotonic()
    assert measured(PowerMeter(tmp_path, "Linux")).watts is None
    assert time.monotonic() - began < 3


def test_it_stops_at_once_and_leaves_nothing(tmp_path: Path, commands: Path) -> None:
    write(commands / "nvidia-smi", "echo $$ > " + str(tmp_path / "pid") + "; echo '0, a, 5'; exec sleep 30")
    domain(tmp_path, "intel-rapl:0", "package-0")
    before = threading.active_count()
    with PowerMeter(tmp_path, "Linux"):
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert threading.active_count() == before
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_meter_can_be_used_again(tmp_path: Path, commands: Path) -> None:
    write(commands / "nvidia-smi", SMI)
    energy = domain(tmp_path, "intel-rapl:0", "package-0")
    meter = PowerMeter(tmp_path, "Linux")
    assert meter.power.why_not == "nothing was measured yet"
    for more in (3, 5):
        with meter:
            energy.write_text(str(int(energy.read_text()) + more * 1_000_000))
        assert meter.power.parts["RAPL package-0"] > 0
        assert meter.power.joules is not None
        assert meter.power.joules >= more


def test_an_error_inside_goes_through(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0")
    meter = PowerMeter(tmp_path, "Linux")
    with pytest.raises(ZeroDivisionError), meter:
        raise ZeroDivisionError
    assert meter.power.joules == 0.0


def test_powermetrics_runs_where_sudo_needs_no_password(tmp_path: Path, commands: Path) -> None:
    write(commands / "sudo", '[ "$1" = -n ] || exit 1; shift; exec "$@"')
    lines = ["*** Sampled system activity ***", "CPU Power: 4100 mW", "GPU Power: 900 mW", "Combined Power: 5000 mW"]
    echoes = "; ".join(f"echo '{line}'" for line in lines)
    write(commands / "powermetrics", f"while :; do {echoes}; sleep 0.05; done")
    power = measured(PowerMeter(tmp_path, "Darwin"), 0.2)
    assert power.watts == pytest.approx(5.0)
    assert power.source == "powermetrics CPU + powermetrics GPU"


def test_powermetrics_asks_for_no_password(tmp_path: Path, commands: Path) -> None:
    write(commands / "sudo", "exit 1")
    power = measured(PowerMeter(tmp_path, "Darwin"))
    assert power.watts is None
    assert "password" in power.why_not


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    power = measured(PowerMeter(), 0.1)
    assert (power.watts is None) == (power.joules is None) == (power.source == "")
    assert power.source or power.why_not
    assert power.watts is None or 0 < power.watts < 20_000
