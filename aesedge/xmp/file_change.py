"""Change the XMP of one file, a sidecar or a JPEG, and say what it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.errors import XmpError
from aesedge.system.sanitize import sanitize
from aesedge.xmp.editing import Items, edit, edit_packet
from aesedge.xmp.embedded import read_embedded
from aesedge.xmp.journal import FileEdit, Written
from aesedge.xmp.jpeg import embed
from aesedge.xmp.packet import NEW_PACKET, Packet
from aesedge.xmp.property_names import HIERARCHICAL_SUBJECT, NOTES, SUBJECT, TAGS_LIST, Name
from aesedge.xmp.replacement import read_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from aesedge.xmp.editing import Change

_SHARED_LISTS = {SUBJECT, HIERARCHICAL_SUBJECT, TAGS_LIST}
_JPEG = b"\xff\xd8"


@dataclass(frozen=True)
class FileChange:
    """A change of one file that is not made yet."""

    path: Path
    before: bytes | None
    """Its content; None for a sidecar that is not there."""
    after: bytes
    written: tuple[Written, ...]

    @property
    def is_new(self) -> bool:
        """Whether the file is made by it."""
        return self.before is None

    def journal_entry(self) -> FileEdit:
        """Return what the journal remembers of it."""
        return FileEdit.between(self.path, self.before, self.after, self.written)

    def make(self) -> None:
        """Write the file.

        Raises:
            XmpError: it is not what was read any more, or cannot be written; it stays as it is.
        """
        replace_file(self.path, self.before, self.after)


def plan_change(path: Path, packet: Packet | None, changes: Mapping[Name, Change]) -> FileChange | None:
    """Return the change of a sidecar or a JPEG; None if it has all values already.

    Args:
        path: the file; a sidecar may be missing.
        packet: the packet in it, as it was read; None if there is none.
        changes: the properties.

    Raises:
        XmpError: it cannot be edited.
    """
    if packet is None:
        packet = Packet(NEW_PACKET, sanitize(str(path)))
    before = packet.data if packet.data is not NEW_PACKET else None
    if path.suffix.lower() != ".xmp":
        before = read_file(path)
        if before is None:
            raise XmpError(f"{sanitize(str(path))}: is gone")
        after = embed(before, changes, sanitize(str(path)))
    else:
        after = edit_packet(packet, changes)
    if after == before or (before is None and after == NEW_PACKET):
        return None
    return FileChange(path, before, after, _written(packet, changes))


def _written(packet: Packet, changes: Mapping[Name, Change]) -> tuple[Written, ...]:
    found = []
    for name, change in changes.items():
        before: str | list[str] | None
        after: str | list[str] | None
        if isinstance(change, Items):
            here = packet.items(name)
            before = [item for item in change.remove if item in here and item not in change.add]
            after = [item for item in change.add if item not in here]
        else:
            before = _value(packet, name)
            after = list(change) if isinstance(change, tuple) else change
        if before != after:
            found.append(Written(*name, before, after))
    return tuple(found)


def _value(packet: Packet, name: Name) -> str | list[str] | None:
    found = packet.properties(name)
    if not found:
        return None
    return found[0].text if found[0].array is None else list(found[0].items or ())


def take_back(made: FileEdit, people: Container[tuple[str, str]] = ()) -> str:
    """Undo the edit of a file, and return how: ``restored``, ``removed``, ``as before``, ``ours taken back``, ``gone``.

    A file that is as the edit left it gets back every byte. From one that was changed since, only values go that are
    still those that were written. What a person has set stays, even if it is what was written.

    Args:
        made: the edit.
        people: files and properties in which a person's value was seen.

    Raises:
        XmpError: the file cannot be read or written, or its folder is away.
    """
    data = read_file(made.path)
    if made.is_before(data):
        return "as before"
    if data is None:
        if not made.path.parent.is_dir():
            raise XmpError(f"{sanitize(str(made.path))}: its folder is away; undo the run again when it is there")
        return "gone"
    persons = {one.name for one in made.written if is_offer(made) and (str(made.path), one.local) in people}
    if made.is_after(data) and not persons:
        before = made.undone(data)
        replace_file(made.path, data, before)
        return "removed" if before is None else "restored"
    name = sanitize(str(made.path))
    is_jpeg = data.startswith(_JPEG)
    inside = read_embedded(made.path).packet if is_jpeg else data
    if inside is None:
        return "as before"
    changes = _changes_back(Packet(inside, name), made.written)
    changes = {key: change for key, change in changes.items() if key not in persons}
    after = embed(data, changes, name) if is_jpeg else edit(data, changes, name)
    if after == data:
        return "as before"
    replace_file(made.path, data, after)
    return "ours taken back"


def is_offer(made: FileEdit) -> bool:
    """Whether an edit wrote aesedge's own values, with a note of them; a person's decision takes the note away."""
    return any(one.name in NOTES and one.after is not None for one in made.written)


def _changes_back(packet: Packet, written: tuple[Written, ...]) -> dict[Name, Change]:
    changes: dict[Name, Change] = {}
    for one in written:
        if one.name in _SHARED_LISTS:
            changes[one.name] = Items(tuple(one.before or ()), tuple(one.after or ()))
        elif _value(packet, one.name) == one.after:
            changes[one.name] = tuple(one.before) if isinstance(one.before, list) else one.before
    return changes
