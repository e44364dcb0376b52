"""The command ``cache``: show or clear what is kept on disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.options import Printing, with_options
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import table
from aesedge.errors import UsageError
from aesedge.system.byte_sizes import size_text
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.cache.disk_store import Kind

KINDS: dict[Kind, str] = {"embeddings": "image embeddings", "kv": "KV of pinned photos and of the prompt before images"}


@with_options(json="Print entries, pinned entries and bytes of each kind as one JSON object.")
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is not pinned.")] = False,
    unpin: Annotated[
        bool, typer.Option("--unpin", help="Unpin every photo; with --clear, remove their KV too.")
    ] = False,
    printing: Printing = Printing(),
) -> None:
    """Show or clear cached image embeddings, pinned KV states and benchmark weights.

    What is removed is made again when it is needed.
    """
    from aesedge.cache import open_store
    from aesedge.system.paths import cache_folder, shapes_folder

    rows: list[list[str]] = []
    summary: dict[str, dict[str, int]] = {}
    for kind, what in KINDS.items():
        store = open_store(kind, "100%")  # what it may take is the engine's business
        for entry in store.entries():
            if unpin and entry.pinned:
                store.unpin(entry.key)
            if clear and (unpin or not entry.pinned):
                store.remove(entry.key)
        left = store.entries()
        n_bytes, n_pinned = sum(entry.n_bytes for entry in left), sum(entry.pinned for entry in left)
        rows.append([what, str(len(left)), str(n_pinned), size_text(n_bytes)])
        summary[kind] = {"entries": len(left), "pinned": n_pinned, "bytes": n_bytes}
    shapes = _bundles_of_shapes(shapes_folder(), clear=clear)
    rows.append(["random weights of bench --shape", str(len(shapes)), "0", size_text(sum(shapes))])
    summary["shapes"] = {"entries": len(shapes), "pinned": 0, "bytes": sum(shapes)}
    if printing.json:
        print_json({"folder": str(cache_folder()), **summary})
        return
    print(table(rows, header=["kept", "entries", "pinned", "size"]))
    if not printing.quiet:
        print(f"\nin {sanitize(str(cache_folder()))}")


def _bundles_of_shapes(folder: Path, *, clear: bool) -> list[int]:
    """Return the sizes of the bundles that ``bench --shape`` left, in bytes, once they are removed where asked.

    Raises:
        UsageError: one cannot be removed, or the folder cannot be read.
    """
    if not folder.is_dir():
        return []
    if clear:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise UsageError(f"{error.filename or folder}: cannot be removed: {error.strerror or error}") from None
        return []
    try:
        bundles = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
        return [sum(file.lstat().st_size for file in bundle.rglob("*") if file.is_file()) for bundle in bundles]
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: cannot be read: {error.strerror or error}") from None
