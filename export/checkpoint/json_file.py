"""Read the JSON files of a checkpoint, with errors that name the file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aesedge.errors import CheckpointError
from aesedge.system.git_lfs import refuse_git_lfs_pointer

if TYPE_CHECKING:
    from pathlib import Path


def read_json(path: Path) -> Any:
    """Return what a file says.

    Raises:
        CheckpointError: it is not JSON.
    """
    refuse_git_lfs_pointer(path, CheckpointError)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # text that is not UTF-8 is a ValueError too
        raise CheckpointError(f"{path}: not valid JSON; download it again") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the fields of a file; none where there is no file.

    Raises:
        CheckpointError: it is not JSON, or not an object.
    """
    if not path.is_file():
        return {}
    loaded = read_json(path)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: not a JSON object; download it again")
    return loaded


def read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's ``config.json``.

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    path = folder / "config.json"
    if not path.is_file():
        reason = "no config.json in it" if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{folder}: not a checkpoint ({reason}); give the folder that was downloaded")
    config = read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: not a configuration; download it again")
    return config
