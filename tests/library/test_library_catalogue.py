"""A catalogue: what is written is read back, by folder; one writer; no file of another kind is touched."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from aesedge.errors import CatalogueError
from aesedge.library import catalogue_file
from aesedge.library.catalogue import open_catalogue
from aesedge.library.catalogue_writer import CatalogueWriter, open_writer
from aesedge.library.finding import state_of
from aesedge.library.records import Content, FileState, Frame, Judgement
from aesedge.library.survey import Surveyor

STATE = FileState(1000, 2, 3)
SETTINGS = {"bundle": "tiny", "gguf": "f32"}


def judgement(score: float, **more: object) -> Judgement:
    result = {"attributes": {"sharpness": {"score": score / 2}}, "seen": "photo"}
    return Judgement(score, result, np.full(4, score, np.float16).tobytes(), **more)  # type: ignore[arg-type]


def add(writer: CatalogueWriter, path: str, score: float, *, digest: bytes | None = None) -> int:
    content = writer.add_content(digest or os.fsencode(path), Content(width=4000, height=3000, camera="a"))
    writer.add_file(path, STATE, content, tail=b"tail" + os.fsencode(path))
    writer.add_judgement(content, writer.use_settings(SETTINGS), judgement(score))
    return content


def test_what_was_written_is_read_by_folder_and_by_path(tmp_path: Path) -> None:
    file, photos = tmp_path / "data" / "x.aesedge", Path(os.path.realpath(tmp_path)) / "photos"
    names = ["a/2.jpg", "a/1.jpg", "a.jpg", "a b/3.jpg", "a-/4.jpg", os.fsdecode(b"a/\xe9.jpg")]
    with open_writer(file) as writer:
        contents = {name: add(writer, str(photos / name), i) for i, name in enumerate(names)}
        raw = str(photos / "a/2.cr3")
        writer.add_file(raw, STATE, contents["a/2.jpg"], tail=None, judged_as=str(photos / "a/2.jpg"))
        writer.set_frames({contents["a/1.jpg"]: Frame(7, "burst", 1, 2, "sharper than the other")})
        writer.add_texts(contents["a/1.jpg"], 1, "Good.", {"advice": "None."})
    with open_catalogue(file) as catalogue:
        found = {photo.path: photo for photo in catalogue.judgements(photos / "a")}
        every = [photo.path for photo in catalogue.judgements()]
        row = catalogue.mean_row(contents["a/1.jpg"], 1)
    assert list(found) == [str(photos / name) for name in ("a/1.jpg", "a/2.jpg", os.fsdecode(b"a/\xe9.jpg"))]
    assert every == sorted(map(str, (photos / name for name in names)), key=os.fsencode)
    one, two, _ = found.values()
    assert (one.score, one.attributes, one.settings) == (1, {"sharpness": 0.5}, SETTINGS)
    assert (one.critique, one.report) == ("Good.", {"advice": "None."})
    assert one.frame == Frame(7, "burst", 1, 2, "sharper than the other")
    assert one.about == Content(width=4000, height=3000, camera="a")
    assert bytes.fromhex(one.key) == os.fsencode(one.path)
    assert two.files == (two.path, raw)
    assert row is not None
    assert row.tolist() == [1, 1, 1, 1]


def test_a_judgement_of_the_model_stays_and_replaces_an_estimate(tmp_path: Path) -> None:
    with open_writer(tmp_path / "x.aesedge") as writer:
        content, used = writer.add_content(b"a", Content()), writer.use_settings(SETTINGS)
        assert writer.add_judgement(content, used, judgement(5, score_from="first pass", low=4.0, high=6.0))
        assert not writer.add_judgement(content, used, judgement(4, score_from="first pass"))
        assert writer.add_judgement(content, used, judgement(7))
        assert not writer.add_judgement(content, used, judgement(8))
        assert not writer.add_judgement(content, used, judgement(3, score_from="first pass"))
        writer.add_file("/a", STATE, content, tail=None)
        assert [(one.score, one.score_from) for one in writer.judgements()] == [(7, "model")]


def test_settings_used_last_are_read(tmp_path: Path) -> None:
    with open_writer(tmp_path / "x.aesedge") as writer:
        content = add(writer, "/a", 5)
        other = writer.use_settings({"bundle": "other"})
        assert list(writer.judgements()) == []
        writer.add_judgement(content, other, judgement(6))
        assert [one.score for one in writer.judgements()] == [6]
        assert [one.score for one in writer.judgements(settings=1)] == [5]
        writer.use_settings(SETTINGS)
        assert [one.score for one in writer.judgements()] == [5]
        assert list(writer.judgements(settings=77)) == []


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with open_writer(tmp_path / "x.aesedge") as writer:
        with suppress(KeyboardInterrupt), writer.transaction():
            add(writer, "/a", 5)
            raise KeyboardInterrupt
        assert list(writer.judgements()) == []
        add(writer, "/a", 6)
        assert [one.score for one in writer.judgements()] == [6]


def test_files_that_are_gone_are_marked_and_come_back(tmp_path: Path) -> None:
    folder = os.path.realpath(tmp_path)
    with open_writer(tmp_path / "x.aesedge") as writer:
        for name in "abc":
            add(writer, f"{folder}/{name}.jpg", 5, digest=b"same" if name != "c" else b"c")
        assert writer.mark_gone(folder, [f"{folder}/a.jpg"]) == 1  # b.jpg is the picture of a.jpg
        assert [(photo.path[-5], photo.is_away) for photo in writer.judgements()] == [("a", False), ("c", True)]
        assert writer.mark_gone(folder, [f"{folder}/{name}.jpg" for name in "abc"]) == 0
        assert [photo.is_away for photo in writer.judgements()] == [False, False, False]


def test_thousands_of_known_photos_take_few_questions(tmp_path: Path) -> None:
    folder, asked = Path(os.path.realpath(tmp_path)) / "photos", []
    with open_writer(tmp_path / "x.aesedge") as writer:
        settings = writer.use_settings(SETTINGS)
        with writer.transaction():
            for i in range(1200):
                path = folder / f"{i % 2}" / f"{i:04}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                content = writer.add_content(i.to_bytes(8, "big"), Content())
                writer.add_file(str(path), state_of(str(path)), content, tail=None)
                writer.add_judgement(content, settings, judgement(5))
        writer._connection.set_trace_callback(asked.append)
        survey = Surveyor(writer, settings).survey([str(folder)])
    assert (survey.n, survey.n_known) == (1200, 1200)
    assert len(asked) < 20


def test_the_second_writer_learns_who_the_first_is(tmp_path: Path) -> None:
    file = tmp_path / "x.aesedge"
    with open_writer(file) as writer:
        add(writer, "/a", 5)
        script = (
            "import sys; from pathlib import Path; from aesedge.library.catalogue import open_catalogue\n"
            "from aesedge.library.catalogue_writer import open_writer\nfile = Path(sys.argv[1])\n"
            "print([photo.score for photo in open_catalogue(file).judgements()])\nopen_writer(file)"
        )
        done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, check=False)
    assert done.stdout == "[5.0]\n"
    assert f"x.aesedge: process {os.getpid()}, since " in done.stderr
    assert "writes to this catalogue; wait until it has ended" in done.stderr
    open_writer(file).close()


def other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine(a)")
    connection.close()


def newer_catalogue(path: Path) -> None:
    open_writer(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=999")
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_database, "is a database, but no catalogue of aesedge; choose another --catalogue"),
        (newer_catalogue, "is a catalogue of version 999, this aesedge reads up to"),
        (lambda path: path.write_bytes(b"no database" * 1000), "is damaged or no catalogue"),
        (lambda path: path.mkdir(), "cannot be opened"),
    ],
)
@pytest.mark.parametrize("open_", [open_writer, open_catalogue])
def test_what_is_no_catalogue_is_refused_and_stays(open_, make, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    path = tmp_path / "x.aesedge"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(CatalogueError, match=rf"^{path}: {message}"):
        open_(path)
    assert before == (path.read_bytes() if path.is_file() else None)


def test_no_catalogue_yet(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="there is no catalogue yet; 'aesedge rate FOLDER' makes one"):
        open_catalogue(tmp_path / "none")


@pytest.mark.parametrize(("network", "mode"), [(False, "wal"), (True, "delete")])
def test_write_ahead_log_is_for_disks_of_one_machine(
    network: bool, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_file, "is_network_disk", lambda _path: network)
    with open_writer(tmp_path / "x.aesedge") as writer:
        add(writer, "/a", 5)
    connection = sqlite3.connect(tmp_path / "x.aesedge")
    assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)
    connection.close()


def test_a_full_disk_is_named_and_what_was_committed_stays(tmp_path: Path) -> None:
    with open_writer(tmp_path / "x.aesedge") as writer:
        add(writer, "/a", 5)
        (pages,) = writer._connection.execute("PRAGMA page_count").fetchone()
        writer._connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(CatalogueError, match="the disk is full; free some space and start again"):
            any(add(writer, f"/b{i}", 6) < 0 for i in range(1000))
        n_kept = len(list(writer.judgements()))
    with open_catalogue(tmp_path / "x.aesedge") as catalogue:
        assert len(list(catalogue.judgements())) == n_kept >= 1
