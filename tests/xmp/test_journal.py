"""The journal leads back to every byte, knows its runs, and refuses what it cannot undo."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesedge.errors import UsageError, XmpError
from aesedge.xmp.journal import FileEdit, Journal, Written
from aesedge.xmp.property_names import RATING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITTEN = (Written(*RATING, None, "4"), Written("urn:x/", "Bag", ["a"], None))


@pytest.fixture
def journal() -> Iterator[Journal]:
    with Journal() as opened:  # in this test's own home
        yield opened


@given(st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=9), st.binary(max_size=9))
def test_an_edit_leads_back(head: bytes, tail: bytes, old: bytes, new: bytes) -> None:
    before, after = head + old + tail, head + new + tail
    edit = FileEdit.between(None, before, after, ())  # type: ignore[arg-type]
    assert edit.undone(after) == before
    assert len(edit.removed or b"") <= len(old)
    assert edit.is_before(before)
    assert edit.is_after(after)


def test_edits_are_read_back_as_they_were(journal: Journal, tmp_path: Path) -> None:
    run = journal.begin_run("stars")
    edits = [
        FileEdit.between(tmp_path / "a\udce9.xmp", b"before", b"after", WRITTEN),
        FileEdit.between(tmp_path / "b.xmp", None, b"new", WRITTEN),
    ]
    journal.record(run, edits)
    assert list(journal.edits(run)) == edits[::-1]
    assert edits[1].undone(b"new") is None
    assert [(r.id, r.n_files, r.undone) for r in journal.runs()] == [(run, 2, None)]


def test_runs_are_undone_from_the_last_one_on(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runs that can be undone: none"):
        journal.run_to_undo(None)
    first, second, third = (journal.begin_run("stars") for _ in range(3))
    for run, name in ((first, "a"), (second, "a"), (third, "b")):
        journal.record(run, [FileEdit.between(tmp_path / name, b"1", b"2", ())])
    assert journal.run_to_undo(None).id == third
    with pytest.raises(UsageError, match=f"run {second} changed some of the same files later"):
        journal.run_to_undo(first)
    journal.mark_undone(second)
    assert journal.run_to_undo(first).id == first
    with pytest.raises(UsageError, match=f"run {second} was undone at"):
        journal.run_to_undo(second)
    with pytest.raises(UsageError, match="there is no run 99"):
        journal.run_to_undo(99)


def test_people_are_remembered(journal: Journal) -> None:
    journal.remember_people([("/a.jpg", "Rating"), ("/a.jpg", "Rating")])
    journal.remember_people([("/a.jpg", "Rating"), ("/b.jpg", "Label")])
    assert journal.people() == {("/a.jpg", "Rating"), ("/b.jpg", "Label")}


def test_a_journal_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(XmpError, match=r"journal\.sqlite: the journal cannot be opened"):
        Journal(path)
    path.unlink()
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(XmpError, match="newer aesedge"):
        Journal(path)


def test_a_damaged_journal_changes_no_file(tmp_path: Path) -> None:
    edit = FileEdit(tmp_path / "a", 0, b"x", 1, b"not its hash", b"", ())
    with pytest.raises(XmpError, match="does not lead back"):
        edit.undone(b"y")
