"""List the checkpoints that ``aesedge pull`` knows by name, and parse names of others."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec

from aesedge.errors import UsageError

_PATH = Path(__file__).with_name("catalogue.json")
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
REPOSITORY_PATTERN = rf"{_PART}/{_PART}"


class CatalogueEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One checkpoint on the Hugging Face hub."""

    name: str
    """What users type, and the bundle's name by default."""
    repository: str
    """``owner/name``."""
    revision: str = ""
    """Commit, the beginning of one, branch or tag; empty for the branch main."""
    revision_note: str = ""
    """Why the revision is not a full commit."""
    about: str = ""
    license: str = ""
    """Licence of the weights; empty where only the repository can say."""
    license_url: str = ""
    n_bytes: int = 0
    """Size of the download, about; 0 if unknown."""


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The catalogue's file."""

    models: list[CatalogueEntry]
    vision_tower: CatalogueEntry
    """The CLIP model that original-LLaVA checkpoints name when they do not hold its weights."""


@cache
def catalogue() -> Catalogue:
    """Return the checkpoints that are known by name."""
    return msgspec.json.decode(_PATH.read_bytes(), type=Catalogue)


def find(asked: str) -> CatalogueEntry:
    """Return the checkpoint that ``NAME``, ``NAME@REVISION`` or ``OWNER/NAME[@REVISION]`` means.

    A repository that is in the catalogue keeps its licence and, where none is asked for, its revision.

    Raises:
        UsageError: it is neither; the message lists the catalogue.
    """
    name, _, revision = asked.partition("@")
    for entry in catalogue().models:
        if name.lower() in {entry.name, entry.repository.lower()}:
            return msgspec.structs.replace(entry, revision=revision, revision_note="") if revision else entry
    if not re.fullmatch(REPOSITORY_PATTERN, name):
        known = ", ".join(entry.name for entry in catalogue().models)
        raise UsageError(
            f"{asked!r} is not a known checkpoint; there are {known}, and any OWNER/NAME[@REVISION] of huggingface.co. "
            "A folder on this machine goes through 'aesedge export'"
        )
    return CatalogueEntry(name=name.partition("/")[2], repository=name, revision=revision)
