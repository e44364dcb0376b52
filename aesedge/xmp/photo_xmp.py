"""Read all XMP of a photo: its sidecars, the packet inside it, the stars in its Exif."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.errors import XmpError
from aesedge.system.error_text import error_text
from aesedge.system.sanitize import sanitize
from aesedge.xmp.embedded import read_embedded
from aesedge.xmp.packet import Packet
from aesedge.xmp.parsing import MOST_BYTES
from aesedge.xmp.property_names import SIDECAR_FOR_EXTENSION
from aesedge.xmp.replacement import read_file
from aesedge.xmp.sidecar import Folder, sidecars_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aesedge.xmp.sidecar import Program, Sidecars


@dataclass(frozen=True)
class PhotoXmp:
    """All XMP of one photo file."""

    photo: Path
    sidecars: Sidecars
    by_sidecar: dict[Path, Packet]
    """The sidecars that are there."""
    embedded: Packet | None
    exif_rating: int | None

    @property
    def packets(self) -> list[Packet]:
        """Every packet."""
        return [*self.by_sidecar.values(), *([self.embedded] if self.embedded else [])]


class XmpReader:
    """Reads photos' XMP; folders are listed once.

    Args:
        program: whose names sidecars have.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._folders: dict[Path, Folder] = {}

    def read(self, photo: Path) -> PhotoXmp:
        """Return what is there of a photo.

        Raises:
            XmpError: some of it cannot be read: what a person has set there is not known then.
        """
        packets: dict[Path, Packet] = {}

        def packet(path: Path) -> Packet:
            if path not in packets:
                packets[path] = Packet(read_file(path, MOST_BYTES) or b"", sanitize(str(path)))
            return packets[path]

        sidecars = sidecars_of(
            photo, self._program, self._folder(photo.parent), lambda path: packet(path).text(SIDECAR_FOR_EXTENSION)
        )
        inside = read_embedded(photo)
        return PhotoXmp(
            photo,
            sidecars,
            {path: packet(path) for path in dict.fromkeys([*sidecars.existing, *sidecars.target]) if path.exists()},
            None if inside.packet is None else Packet(inside.packet, sanitize(str(photo))),
            inside.exif_rating,
        )

    def read_files(self, names: Iterable[str]) -> list[PhotoXmp]:
        """Return what is there of a picture's files; those that are away are left out.

        Raises:
            XmpError: see :meth:`read`.
        """
        return [self.read(path) for path in map(Path, names) if path.exists()]

    def _folder(self, path: Path) -> Folder:
        if path not in self._folders:
            try:
                self._folders[path] = Folder(path)
            except OSError as error:
                raise XmpError(f"{sanitize(str(path))}: cannot be read: {error_text(error)}") from None
        return self._folders[path]
