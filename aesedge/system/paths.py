"""Locate the folders that aesedge writes to: installed bundles and caches."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs


def data_folder() -> Path:
    """Where bundles are installed: ``AESEDGE_HOME``, or the platform's folder for user data."""
    return Path(os.environ.get("AESEDGE_HOME") or platformdirs.user_data_dir("aesedge", appauthor=False))


def cache_folder() -> Path:
    """Where caches, profiles and remembered hashes are: ``AESEDGE_CACHE``, or the platform's folder for caches."""
    return Path(os.environ.get("AESEDGE_CACHE") or platformdirs.user_cache_dir("aesedge", appauthor=False))


def shapes_folder() -> Path:
    """Where ``bench --shape`` keeps its bundles of random weights; all of them can be made again."""
    return cache_folder() / "shapes"


def existing_folder(path: Path) -> Path:
    """Return the folder, or the nearest one above that is there: for questions about its disk."""
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.is_dir() or folder == folder.parent)


def child_python_path() -> str:
    """Return PYTHONPATH for a child that must find this package where we found it, installed or not."""
    return os.pathsep.join(path for path in sys.path if path)
