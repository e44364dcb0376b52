"""A folder that appears only when it is complete: written beside its place, moved into it at the end."""

from __future__ import annotations

import glob
import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from aesedge.errors import AesedgeError, BundleError, UsageError
from aesedge.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check_target(out: Path, *, overwrite: bool) -> None:
    """See that a bundle may be written to ``out``, before any work is done for it.

    Raises:
        UsageError: something is there that may not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST_NAME).is_file():
        raise UsageError(f"{out}: is there already and is not a bundle; give another folder")
    if not overwrite:
        raise UsageError(f"{out}: there is a bundle already; give another name or --overwrite")


@contextmanager
def work_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder that becomes ``out`` if the block ends well, and is removed otherwise, Ctrl-C included.

    Raises:
        UsageError: ``out`` may not be replaced.
        BundleError: the disk is full, or nothing may be written there.
    """
    clear_leftovers(out)
    check_target(out, overwrite=overwrite)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        check_target(out, overwrite=overwrite)
        _move(partial, out)
    except AesedgeError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(f"{out}: cannot be written: {reason}; make room or give another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def clear_leftovers(out: Path) -> None:
    """Remove what runs for the same folder left behind when they were killed; bring back a bundle lost half-way."""
    ours = re.compile(rf"\.{re.escape(out.name)}\.(\d+)\.(partial|old)")
    for path in sorted(out.parent.glob(f".{glob.escape(out.name)}.*")):
        found = ours.fullmatch(path.name)
        if found is None or psutil.pid_exists(int(found[1])):
            continue
        if found[2] == "old" and not out.exists():  # killed between the two renames of _move
            path.rename(out)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _move(partial: Path, out: Path) -> None:
    """Put the new folder in its place; an old one stays until the new one is there."""
    if not out.exists():
        partial.rename(out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    out.rename(old)
    try:
        partial.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
