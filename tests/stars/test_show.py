"""`aesedge show`: what is known of a photo, and with a picture where the terminal takes one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest
from conftest import drawn_photo
from judged_library import judge

from aesedge.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    drawn_photo(0, (320, 240)).save(photos / "a.jpg")
    judge(photos, {"a.jpg": 8.4, "b.JPG": 6.6}, pairs={"b.CR3": "b.JPG"}, critique="Sharp\x1b[2J & bright.")
    (photos / "a.jpg.xmp").write_bytes(
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="2"/></rdf:RDF>'
    )
    return photos


def test_what_is_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder / "a.jpg")]) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == str(folder / "a.jpg")
    assert lines[1].startswith("score 8.4")
    assert lines[2].startswith("composition 4.2")
    assert "burst: 1 of 2, sharper than the other" in lines
    assert "rated by a person: 2" in lines
    assert "Sharp\\x1b[2J & bright." in out
    assert lines[-1].startswith("judged by pocket q8_0 144, 20")


def test_json_and_the_raw_of_a_pair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--json", str(folder / "b.CR3"), str(folder / "a.jpg")]) == 0
    raw, rated = map(json.loads, capsys.readouterr().out.splitlines())
    assert raw["photo"] == str(folder / "b.JPG")
    assert raw["files"] == [str(folder / "b.JPG"), str(folder / "b.CR3")]
    assert rated["person"] == {"rating": "2", "label": None, "pick": None}
    assert rated["burst"] == {"kind": "burst", "position": 1, "frames": 2, "reason": "sharper than the other"}


def test_an_estimate_has_its_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge(tmp_path, {"a.jpg": 5.0}, score_from="first pass")
    assert main(["show", str(tmp_path / "a.jpg")]) == 0
    assert "5.0, estimated by the first pass" in capsys.readouterr().out


def test_what_is_not_known_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "new.jpg").write_bytes(b"x")
    (folder / "b.JPG.xmp").write_bytes(b"")
    assert main(["show", *(str(folder / name) for name in ("new.jpg", "none.jpg", "b.JPG"))]) == 1
    out, err = capsys.readouterr()
    assert "new.jpg: is not judged yet; 'aesedge rate' does that" in err
    assert "none.jpg: there is no such file" in err
    assert "note: " in out
    assert "b.JPG.xmp: is empty" in out


@pytest.mark.parametrize(("answer", "has_picture"), [(b"\x1b[?62;4;22c", True), (b"\x1b[?62;22c", False)])
def test_a_picture_where_the_terminal_takes_sixel(folder: Path, answer: bytes, has_picture: bool) -> None:
    """A terminal that says what it can when it is asked, as xterm does."""
    pytest.importorskip("textual_image")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 30, 90, 900, 600))
    script = "import sys; from aesedge.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "show", str(folder / "a.jpg")]
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm-256color"}
    )
    os.close(theirs)
    out, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 1)[0]:
            if child.poll() is not None:
                break
            continue
        try:
            some = os.read(ours, 65536)
        except OSError:
            break
        out += some
        if b"\x1b[c" in some:
            os.write(ours, answer)
    assert child.wait(10) == 0, out[-800:]
    os.close(ours)
    assert (b"\x1bP" in out) == has_picture, out[:200]
    assert b"8.4" in out
