"""Locate the folders that aesedge writes to: installed bundles and caches."""

from __future__ import annotations

import os
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
