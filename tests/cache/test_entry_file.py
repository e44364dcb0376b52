"""An entry's file: read back bit for bit, or not at all."""

from __future__ import annotations

import ctypes
import hashlib
import io
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aesedge.cache import entry_file
from aesedge.cache.entry_file import DamagedEntry, EntryWriter, read_entry, read_header
from aesedge.errors import UsageError

KEY, OTHER_KEY = "1" * 64, "2" * 64


def written(path: Path, payload: Any = b"payload", metadata: dict[str, Any] | None = None, key: str = KEY) -> Path:
    with path.open("wb") as file:
        EntryWriter(key, "kv", metadata or {}, payload).write(file)
    return path


def read(path: Path, key: str = KEY, kind: str = "kv") -> entry_file.Entry:
    with path.open("rb") as file:
        return read_entry(file, key=key, kind=kind)


@given(payload=st.binary(max_size=300), metadata=st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text()))
@settings(max_examples=40, deadline=None)
def test_what_was_written_is_read(payload: bytes, metadata: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder) / "e", payload, metadata)
        entry = read(path)
        assert (entry.payload.tobytes(), entry.metadata) == (payload, metadata)
        assert path.stat().st_size == EntryWriter(KEY, "kv", metadata, payload).n_bytes
        assert (path.stat().st_size - len(payload)) % 64 == 0


@pytest.mark.parametrize(
    "payload",
    [
        np.arange(12, dtype=np.float16).reshape(3, 4),
        np.zeros((0, 4), dtype=np.float16),
        np.arange(3.0),
        bytearray(b"abc"),
        memoryview(b"abc"),
        (ctypes.c_uint8 * 3)(1, 2, 3),
        (ctypes.c_float * 2)(1, 2),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_any_contiguous_buffer_can_be_a_payload(payload: Any, tmp_path: Path) -> None:
    assert read(written(tmp_path / "e", payload)).payload.tobytes() == bytes(memoryview(payload).tobytes())


def test_payload_can_be_handed_to_c(tmp_path: Path) -> None:
    payload = read(written(tmp_path / "e", b"\1\2\3")).payload
    assert payload.flags.c_contiguous
    assert ctypes.string_at(payload.ctypes.data, payload.size) == b"\1\2\3"
    assert bytes((ctypes.c_uint8 * 3).from_buffer(payload)) == b"\1\2\3"


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_altered_file_is_read(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder) / "e", b"0123456789" * 3, {"n_tokens": 7})
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        flip = data.draw(st.integers(1, 255))
        altered = data.draw(
            st.sampled_from(
                [
                    whole[:at],
                    whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :],
                    whole[:at] + bytes([flip]) + whole[at:],
                    whole + bytes(flip),
                    whole[at:] + whole[:at] if at else b"",
                    bytes(len(whole)),
                ]
            )
        )
        path.write_bytes(altered)
        with pytest.raises(DamagedEntry):
            read(path)


def test_entry_of_another_key_kind_or_version_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "e")
    with pytest.raises(DamagedEntry, match="another entry"):
        read(path, key=OTHER_KEY)
    with pytest.raises(DamagedEntry, match="another entry"):
        read(path, kind="embeddings")
    monkeypatch.setattr(entry_file, "FORMAT_VERSION", 2)
    with pytest.raises(DamagedEntry, match="format version 1, not 2"):
        read(path)


def head(text: bytes) -> bytes:
    return struct.pack("<8sII32s", entry_file.MAGIC, 1, len(text), hashlib.sha256(text).digest()) + text


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"key":"%b"}' % KEY.encode(),
        b'{"key":"%b","kind":"kv","metadata":[],"payload_bytes":0,"payload_sha256":""}' % KEY.encode(),
        b'{"key":"%b","kind":"kv","metadata":{},"payload_bytes":-1,"payload_sha256":""}' % KEY.encode(),
        b'{"key":"%b","kind":"kv","metadata":{},"payload_bytes":9000000000000,"payload_sha256":""}' % KEY.encode(),
        b" " * 70_000,
    ],
)
def test_hostile_headers_are_damage_and_take_no_memory(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(head(text))
    with pytest.raises(DamagedEntry):
        read(path)


def test_header_is_read_without_the_payload(tmp_path: Path) -> None:
    path = written(tmp_path / "e", bytes(1000), {"n_tokens": 7})
    with path.open("r+b") as file:
        file.seek(-1, io.SEEK_END)
        file.write(b"x")  # only the payload's checksum would tell
    with path.open("rb") as file:
        assert read_header(file, key=KEY, kind="kv").metadata == {"n_tokens": 7}
    with pytest.raises(DamagedEntry, match="content"):
        read(path)


def test_file_that_shrinks_while_it_is_read_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "e", bytes(1000))
    header = read_header

    def header_then_cut(file: Any, **of: str) -> Any:
        found = header(file, **of)
        with path.open("r+b") as other:
            other.truncate(100)
        return found

    monkeypatch.setattr(entry_file, "read_header", header_then_cut)
    monkeypatch.setattr(entry_file, "_PIECE_BYTES", 100)
    with path.open("rb", buffering=0) as file, pytest.raises(DamagedEntry, match="cut short while"):
        read_entry(file, key=KEY, kind="kv")


def test_wrong_payloads_and_metadata_are_refused() -> None:
    with pytest.raises(UsageError, match="contiguous"):
        EntryWriter(KEY, "kv", {}, np.zeros((4, 4))[:, ::2])
    with pytest.raises(UsageError, match="contiguous"):
        EntryWriter(KEY, "kv", {}, "text")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="plain JSON"):
        EntryWriter(KEY, "kv", {"a": object()}, b"")
    with pytest.raises(UsageError, match="small"):
        EntryWriter(KEY, "kv", {"a": "x" * 70_000}, b"")
