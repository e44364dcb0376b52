"""Write a folder beside its final place and move it there when it is complete."""

from __future__ import annotations

import glob
import logging
import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from aesedge.bundle.manifest import MANIFEST_MAX_BYTES, MANIFEST_NAME, ManifestSummary, read_summary
from aesedge.errors import AesedgeError, BundleError, UsageError
from aesedge.system.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MMPROJ_NAMES = {"llama.cpp pair": "mmproj.gguf", "random weights": "mmproj-f16.gguf"}
"""Origin of a bundle to the name of its mmproj file, which lies beside the files of its manifest."""
_log = logging.getLogger("aesedge")


def check_target(out: Path, *, overwrite: bool) -> None:
    """Check that a bundle may be written to ``out``, before any work is done.

    Raises:
        UsageError: something is there that may not be replaced.
    """
    out = _real(out)
    if not os.path.lexists(out) or _is_empty_folder(out):
        return
    if _listed(out) is None:
        raise UsageError(f"{out}: is there already and is not a bundle; give another folder")
    if not overwrite:
        raise UsageError(f"{out}: there is a bundle already; give another name or --overwrite")


def _real(out: Path) -> Path:
    """Return the folder that a link points to: the link stays, its target is replaced.

    Raises:
        UsageError: it leads in a circle.
    """
    try:
        return out.resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{out}: is no folder: {error}; give another one") from None


def _is_empty_folder(out: Path) -> bool:
    try:
        return out.is_dir() and not any(out.iterdir())
    except OSError as error:
        raise UsageError(f"{out}: cannot be read: {error.strerror}; give another folder") from None


def _listed(folder: Path) -> ManifestSummary | None:
    """Return what the manifest in a folder lists, or None where there is none of ours."""
    try:
        return read_summary(read_regular(folder / MANIFEST_NAME, most_bytes=MANIFEST_MAX_BYTES))
    except OSError:
        return None


@contextmanager
def work_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out`` if the block succeeds, and is removed on any error or Ctrl-C.

    Of a replaced bundle only the files in its manifest are removed; a warning names what stays.

    Raises:
        UsageError: ``out`` may not be replaced.
        BundleError: the disk is full, or nothing may be written there.
    """
    out = _real(out)
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
    """Remove what killed runs for this folder left behind; restore a bundle that was lost between two renames."""
    ours = re.compile(rf"\.{re.escape(out.name)}\.(\d+)\.(partial|old)")
    for path in sorted(out.parent.glob(f".{glob.escape(out.name)}.*")):
        found = ours.fullmatch(path.name)
        if found is None or psutil.pid_exists(int(found[1])):
            continue
        if found[2] == "partial":
            shutil.rmtree(path, ignore_errors=True)
        elif not out.exists():  # killed between the two renames of _move
            path.rename(out)
        else:
            _settle(path, out)


def _move(partial: Path, out: Path) -> None:
    """Rename the new folder to its place; an old one is removed after that."""
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
    _settle(old, out)


def _settle(old: Path, out: Path) -> None:
    """Remove a replaced bundle, and move foreign files in its folder into the new one."""
    listed = _listed(old) or ManifestSummary(set())
    made_from = {listed.checkpoint, listed.layout.partition(",")[0]}
    beside = {name for origin, name in MMPROJ_NAMES.items() if origin in made_from}
    ours = {MANIFEST_NAME, *listed.files, *beside}
    stayed = []
    try:
        for path in sorted(old.iterdir()):
            is_folder = path.is_dir() and not path.is_symlink()
            if path.name in ours and not is_folder:
                path.unlink()
                continue
            target = out / path.name
            while os.path.lexists(target):  # the new bundle has a file of this name
                target = target.with_name(f"{target.name}.kept")
            path.rename(target)
            stayed.append(target.name)
        old.rmdir()
    except OSError as error:
        _log.warning("%s: what was replaced cannot be removed: %s; remove it yourself", old, error.strerror or error)
    if stayed:
        _log.warning("%s: not part of the bundle, kept: %s", out, ", ".join(stayed))
