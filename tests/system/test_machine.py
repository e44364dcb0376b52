"""Memory of the machine and its container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laid_out import lay_out

from aesedge.system import machine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MIB = 1 << 20


def test_container_limits_of_both_versions(tmp_path: Path) -> None:
    groups = "sys/fs/cgroup"
    inner, outer = f"{groups}/app/worker", f"{groups}/app"
    lay_out(tmp_path, {"proc/self/cgroup": "0::/app/worker\n", f"{inner}/memory.max": "max\n"})
    lay_out(tmp_path, {f"{inner}/memory.current": "5\n", f"{inner}/memory.stat": "anon 1\n"})
    assert machine._container_limits(tmp_path) == []
    lay_out(tmp_path, {f"{outer}/memory.max": "4000\n", f"{outer}/memory.current": "1000\n"})
    lay_out(tmp_path, {f"{outer}/memory.stat": "anon 700\ninactive_file 200\nactive_file 100\n"})
    assert machine._container_limits(tmp_path) == [(4000, 3300)]
    old = f"{groups}/memory/memory"
    lay_out(tmp_path, {"proc/self/cgroup": "9:cpu:/\n4:memory:/of/the/host\n", f"{old}.limit_in_bytes": "2000\n"})
    lay_out(tmp_path, {f"{old}.usage_in_bytes": "500\n", f"{old}.stat": "inactive_file 50\n"})
    assert machine._container_limits(tmp_path) == [(2000, 1550)]
    assert machine._container_limits(tmp_path / "elsewhere") == []


def test_container_caps_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_container_limits", lambda: [(3 * MIB, MIB), (2 * MIB, -5)])
    assert machine.total_bytes() == 2 * MIB
    assert machine.available_bytes() == 0


def test_giving_back_freed_memory_is_harmless() -> None:
    machine.trim_heap()
    machine.trim_heap()
