"""Find the local folder of a model that a configuration names; never uses the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence


def find_folder(named: str, near: Sequence[Path]) -> Path | None:
    """Return the folder of a model, or None if it is not on this machine.

    Looked at in this order: the path itself; a folder of that name within ``near`` and beside them; the local cache of
    huggingface_hub.

    Args:
        named: a path on this or another machine, or a repository ``owner/name`` of the hub.
        near: folders of the models that name it.
    """
    named = named.replace("\\", "/").rstrip("/")
    if not named:
        return None
    last = named.rsplit("/", maxsplit=1)[-1]
    places = [Path(named)]
    for folder in near:
        places += [folder / named, folder / last, folder.resolve().parent / last]
    found = next((place for place in places if (place / "config.json").is_file()), None)
    return found or _cached(named)


def _cached(repository: str) -> Path | None:
    try:
        config = try_to_load_from_cache(repository, "config.json", cache_dir=constants.HF_HUB_CACHE)
    except HFValidationError:  # a path, not a repository
        return None
    return Path(config).parent if isinstance(config, str) else None
