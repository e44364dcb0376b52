"""The doctor's row about the network fails where something talks, is about to, or took the switch back."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from aesedge.doctor.network import check_network
from aesedge.errors import AesedgeError

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_talks() -> None:
    assert check_network().startswith("no socket is open, ONNX Runtime ")


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_bound_socket_is_found(family: socket.AddressFamily, host: str, kind: socket.SocketKind) -> None:
    with socket.socket(family, kind) as opened:
        try:
            opened.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        if kind == socket.SOCK_STREAM:
            opened.listen()
        with pytest.raises(AesedgeError, match="a network socket is open"):
            check_network()


@pytest.mark.parametrize("value", [None, "", "0"])
def test_a_switch_that_was_taken_back_is_found(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    else:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", value)
    with pytest.raises(AesedgeError, match="ORT_DISABLE_TELEMETRY is not set"):
        check_network()


def test_a_store_of_reports_that_is_open_is_found(tmp_path: Path) -> None:
    with (tmp_path / "onnxruntime.db").open("wb"), pytest.raises(AesedgeError, match="collects reports of usage"):
        check_network()
