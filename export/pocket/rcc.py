"""Read Qt resource files (.rcc), in which GCompris keeps its photographs.

It knows the container format only, nothing about pictures or licences.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMPRESSED_ZLIB, DIRECTORY, COMPRESSED_ZSTD = 1, 2, 4


def read_rcc(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path inside the resource, content) of every entry that is stored plain or with zlib."""
    blob = path.read_bytes()
    if blob[:4] != b"qres":
        raise ValueError(f"{path} is not a Qt resource file: it starts with {blob[:4]!r}")
    version, tree, data, names = struct.unpack(">4I", blob[4:20])
    node_size = 14 if version == 1 else 22  # version 2 added a modification time of 8 bytes

    def name_of(node: int) -> str:
        start = names + struct.unpack(">I", blob[node : node + 4])[0]
        length = struct.unpack(">H", blob[start : start + 2])[0]
        return blob[start + 6 : start + 6 + 2 * length].decode("utf-16-be")

    def walk(index: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        node = tree + index * node_size
        flags = struct.unpack(">H", blob[node + 4 : node + 6])[0]
        if flags & DIRECTORY:
            count, first = struct.unpack(">2I", blob[node + 6 : node + 14])
            for child in range(first, first + count):
                yield from walk(child, f"{prefix}/{name_of(tree + child * node_size)}".lstrip("/"))
        elif not flags & COMPRESSED_ZSTD:
            start = data + struct.unpack(">I", blob[node + 10 : node + 14])[0]
            content = blob[start + 4 : start + 4 + struct.unpack(">I", blob[start : start + 4])[0]]
            # Qt puts the unpacked size in four bytes before the zlib stream.
            yield prefix, zlib.decompress(content[4:]) if flags & COMPRESSED_ZLIB else content

    yield from walk(0, "")
