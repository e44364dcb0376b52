"""Write a contact sheet: one page with its data inside, thumbnails beside it or inside too."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from aesedge.contact_sheet.entries import page_data
from aesedge.contact_sheet.thumbnails import thumbnail, write_pictures
from aesedge.errors import AesedgeError, UsageError, XmpError
from aesedge.system.atomic_file import write_atomic
from aesedge.system.ordered_map import map_ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aesedge.library.records import JudgedPhoto

PAGE = "index.html"
MOST_IN_ONE_FILE = 1000
"""Photos of a page that has its thumbnails inside: it is read as a whole before anything is shown."""


def write_sheet(
    photos: Sequence[JudgedPhoto],
    out: Path,
    title: str,
    *,
    single_file: bool = False,
    failed: Callable[[str, AesedgeError], None],
    progress: Callable[[float], None] = lambda _: None,
) -> Path:
    """Write a contact sheet and return its page; thumbnails that are there already stay.

    Args:
        photos: what the catalogue knows.
        out: the folder; with ``single_file`` the page's file.
        title: its title.
        single_file: whether thumbnails stand in the page, and full pictures are left out.
        failed: called with a photo that cannot be shown, or whose ratings cannot be read; it is in the sheet still.
        progress: called with the part that is done.

    Raises:
        UsageError: too many photos for a single file.
        OSError: the folder cannot be written.
    """
    if single_file and len(photos) > MOST_IN_ONE_FILE:
        raise UsageError(f"--single-file: {len(photos)} photos are more than {MOST_IN_ONE_FILE}; choose fewer folders")
    folder = out.parent if single_file else out
    folder.mkdir(parents=True, exist_ok=True)

    def unreadable(photo: str, error: XmpError) -> None:
        failed(photo, error)

    data = page_data(photos, folder, failed=unreadable, progress=lambda part: progress(part / 10))
    entries = dict(zip([photo.path for photo in photos], data["photos"], strict=True))
    if single_file:
        _put_inside(photos, entries, failed, lambda part: progress(0.1 + 0.9 * part))
    else:
        _put_beside(photos, entries, folder, failed, lambda part: progress(0.1 + 0.9 * part))
    digest = hashlib.sha256("\n".join(photo.key for photo in photos).encode()).hexdigest()
    path = out if single_file else out / PAGE
    write_atomic(path, page({"id": digest[:16], **data}, title).encode())
    return path


def _put_inside(
    photos: Sequence[JudgedPhoto],
    entries: dict[str, dict[str, Any]],
    failed: Callable[[str, AesedgeError], None],
    progress: Callable[[float], None],
) -> None:
    for i, (photo, made) in enumerate(map_ordered([p.path for p in photos], thumbnail, at_once=2)):
        progress((i + 1) / len(photos))
        entry = entries[photo]
        entry["u"] = ""
        if isinstance(made, AesedgeError):
            failed(photo, made)
        else:
            entry["t"] = "data:image/webp;base64," + base64.b64encode(made).decode()


def _put_beside(
    photos: Sequence[JudgedPhoto],
    entries: dict[str, dict[str, Any]],
    folder: Path,
    failed: Callable[[str, AesedgeError], None],
    progress: Callable[[float], None],
) -> None:
    for name in ("thumbs", "previews"):
        (folder / name).mkdir(exist_ok=True)
    wanted = []
    for photo in photos:
        entries[photo.path]["t"] = 1
        wanted.append((photo.path, folder / "thumbs" / f"{photo.key}.webp", False))
        if entries[photo.path]["u"].startswith("previews/"):
            wanted.append((photo.path, folder / "previews" / f"{photo.key}.webp", True))
    n_done = 0

    def done(photo: str, error: AesedgeError | None) -> None:
        nonlocal n_done
        n_done += 1
        progress(n_done / len(wanted))
        if error is not None and entries[photo].pop("t", None):
            failed(photo, error)

    write_pictures(wanted, done)


def page(data: dict[str, Any], title: str) -> str:
    """Return the page. Its policy lets it load pictures of this disk, and nothing else."""
    parts = resources.files("aesedge.contact_sheet") / "page"
    style, script = ((parts / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src 'self' file: data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # Names and critiques are foreign: nothing of them may end the element that they stand in.
    inside = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    values = {"policy": policy, "title": html.escape(title), "style": style, "script": script, "data": inside}
    text = (parts / PAGE).read_text(encoding="utf-8")
    pieces = text.split("{{")
    return pieces[0] + "".join(values[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
