"""The command ``cache``: what is kept on disk and how much of it, and removing it; knows files, not what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from aesedge.cli.options import Printing, expand
from aesedge.cli.terminal import size, table

if TYPE_CHECKING:
    from aesedge.cache.disk_store import Kind

KINDS: dict[Kind, str] = {"embeddings": "image embeddings", "kv": "KV of pinned photos and of the text before images"}


@expand
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is not pinned.")] = False,
    unpin: Annotated[bool, typer.Option("--unpin", help="Unpin every photo; with --clear, remove them too.")] = False,
    printing: Printing = Printing(),
) -> None:
    """Show what is kept of photos that were seen, or remove it. It is computed again when it is needed."""
    from aesedge.cache import open_store
    from aesedge.hashes import cache_folder

    rows, summary = [], {}
    for kind, what in KINDS.items():
        store = open_store(kind, "100%")  # what it may take is the engine's business
        for entry in store.entries():
            if unpin and entry.pinned:
                store.unpin(entry.key)
            if clear and (unpin or not entry.pinned):
                store.remove(entry.key)
        left = store.entries()
        n_bytes, n_pinned = sum(entry.n_bytes for entry in left), sum(entry.pinned for entry in left)
        rows.append([what, str(len(left)), str(n_pinned), size(n_bytes)])
        summary[kind] = {"entries": len(left), "pinned": n_pinned, "bytes": n_bytes}
    if printing.json:
        print(msgspec.json.encode({"folder": str(cache_folder()), **summary}).decode())
        return
    print(table(rows, header=["kept", "entries", "pinned", "size"]))
    if not printing.quiet:
        print(f"\nin {cache_folder()}")
