"""Choose a photo's sidecars: each program looks for them under other names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from aesedge.errors import XmpError
from aesedge.image.find_photos import PHOTO_SUFFIXES, RAW_SUFFIXES
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable

Program = Literal["auto", "lightroom", "darktable", "digikam", "captureone"]
PROGRAMS: tuple[Program, ...] = get_args(Program)
JPEG_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif"))


@dataclass(frozen=True)
class Sidecars:
    """The sidecars of one photo."""

    existing: tuple[Path, ...]
    """All that are there and may be the photo's: what a person has set in any of them counts."""
    target: tuple[Path, ...]
    """Those to edit, or to make."""
    refusal: str = ""
    """Why there is no target."""


class Folder:
    """The photos and sidecars of a folder, listed once; names are compared without regard to case, as programs do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        names = {entry.name for entry in path.iterdir()}
        self._names = names
        self._sidecars = {name.casefold(): name for name in names if name.casefold().endswith(".xmp")}
        self.has_full_names = any(Path(name[:-4]).suffix in RAW_SUFFIXES for name in self._sidecars)
        """Whether sidecars of RAW files here are called IMG.CR3.xmp rather than IMG.xmp."""
        self._photos: dict[str, list[str]] = {}
        for name in names:
            file = Path(name)
            if file.suffix.lower() in PHOTO_SUFFIXES:
                self._photos.setdefault(file.stem.casefold(), []).append(file.suffix.lower())

    def sidecar(self, name: str) -> Path | None:
        """Return the sidecar of that name, if it is there and is not that of a photo that differs by case alone."""
        found = name if name in self._names else self._sidecars.get(name.casefold())
        if found is None or (found != name and found[:-4] in self._names):
            return None
        return self.path / found

    def suffixes(self, stem: str) -> list[str]:
        """Return the suffixes of all photos with a stem."""
        return self._photos.get(stem.casefold(), [])


def sidecars_of(photo: Path, program: Program, folder: Folder, extension_in: Callable[[Path], str | None]) -> Sidecars:
    """Return a photo's sidecars.

    Args:
        photo: the photo.
        program: whose names are used; ``auto`` edits what is there, and makes what most programs read.
        folder: the photo's folder.
        extension_in: returns ``photoshop:SidecarForExtension`` of a sidecar.

    Raises:
        XmpError: a sidecar belongs to one of several photos, and does not say to which; or it cannot be read.
    """
    suffix = photo.suffix.lower()
    full = folder.sidecar(f"{photo.name}.xmp")
    short = folder.sidecar(f"{photo.stem}.xmp")
    belongs = short is not None and _belongs(photo, short, folder, extension_in)
    existing = tuple(path for path, is_ours in ((full, True), (short, belongs)) if path is not None and is_ours)
    new_full, new_short = photo.with_name(f"{photo.name}.xmp"), photo.with_name(f"{photo.stem}.xmp")
    if program == "auto":
        alone = suffix in RAW_SUFFIXES and sum(s in RAW_SUFFIXES for s in folder.suffixes(photo.stem)) == 1
        is_short = alone and short is None and not folder.has_full_names
        return Sidecars(existing, existing or (new_short if is_short else new_full,))
    if program in {"darktable", "digikam"}:
        return Sidecars(existing, (full or new_full,))
    refusal = _refusal(photo, program, folder, None if belongs else short)
    return Sidecars(existing, () if refusal else (short or new_short,), refusal)


def _refusal(photo: Path, program: Program, folder: Folder, foreign: Path | None) -> str:
    """Return why a photo has no sidecar without its suffix, empty if it has one or may have one."""
    suffix = photo.suffix.lower()
    is_raw = suffix in RAW_SUFFIXES
    if program == "lightroom" and not is_raw:
        kind = suffix.removeprefix(".").upper()
        more = "; --embed writes into it" if suffix in JPEG_SUFFIXES else ""
        return f"Lightroom reads no sidecar of a {kind} file{more}"
    if foreign is not None:
        return f"{sanitize(foreign.name)} belongs to another photo"
    rivals = [s for s in folder.suffixes(photo.stem) if s != suffix and (s in RAW_SUFFIXES or not is_raw)]
    if rivals:
        others = ", ".join(photo.stem + other for other in sorted(rivals))
        return f"{sanitize(photo.stem)}.xmp would be the sidecar of {sanitize(others)} too"
    return ""


def _belongs(photo: Path, short: Path, folder: Folder, extension_in: Callable[[Path], str | None]) -> bool:
    """Return whether IMG.xmp is the sidecar of this photo, where others have the same stem."""
    suffix = photo.suffix.lower()
    extension = (extension_in(short) or "").lower().removeprefix(".")
    if extension:
        return suffix == f".{extension}"
    others = folder.suffixes(photo.stem)
    raws = [other for other in others if other in RAW_SUFFIXES]
    if len(others) <= 1 or raws == [suffix]:
        return True
    if len(raws) == 1:  # a RAW and what was made of it
        return False
    names = " and ".join(f"{photo.stem}{other}" for other in sorted(others))
    raise XmpError(
        f"{sanitize(str(short))}: may belong to {sanitize(names)}, and does not say to which "
        "(photoshop:SidecarForExtension); rename one of them"
    )
