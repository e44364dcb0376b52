"""Files are replaced as a whole, with their mode, and only if they are what was read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aesedge.errors import XmpError
from aesedge.xmp.replacement import ChangedError, read_file, replace_file

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_mode_and_links_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "a.xmp", tmp_path / "link.xmp"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    replace_file(link, b"old", b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777, link.is_symlink()) == (b"new", 0o640, True)
    assert names(tmp_path) == ["a.xmp", "link.xmp"]


@pytest.mark.parametrize(
    ("there", "read", "after"), [(b"x", b"old", b"new"), (None, b"old", b"new"), (b"x", None, b"new")]
)
def test_what_another_program_wrote_stays(
    tmp_path: Path, there: bytes | None, read: bytes | None, after: bytes
) -> None:
    path = tmp_path / "a.xmp"
    if there is not None:
        path.write_bytes(there)
    with pytest.raises(ChangedError, match="another program has changed it"):
        replace_file(path, read, after)
    assert read_file(path) == there
    with pytest.raises(ChangedError):
        replace_file(path, read or b"other", None)
    assert read_file(path) == there
    assert names(tmp_path) == (["a.xmp"] if there else [])


def test_a_file_is_made_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    replace_file(path, None, b"new")
    assert path.read_bytes() == b"new"
    replace_file(path, b"new", None)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="FIFOs and folders without permission are POSIX's")
def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xmp")
    with pytest.raises(XmpError, match=r"pipe\.xmp: cannot be read: is a FIFO"):
        replace_file(tmp_path / "pipe.xmp", b"", b"new")
    with pytest.raises(XmpError, match=r"none/a\.xmp: cannot be written"):
        replace_file(tmp_path / "none" / "a.xmp", None, b"new")
