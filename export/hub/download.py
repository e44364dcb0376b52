"""Look up a repository on the Hugging Face hub, and download one file of it with resume and hash check.

With hub_errors.py the only place that imports huggingface_hub. Files come one by one through its ``hf_hub_download``
and not through ``snapshot_download``: that one's threads make Ctrl-C wait for whole files, it asks the hub again for
files that are complete, and it returns an incomplete folder without an error when the hub cannot be reached.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import warnings
from typing import TYPE_CHECKING

import msgspec
import requests
from huggingface_hub import HfApi, constants, get_session, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    tqdm,
)

from aesedge.errors import DownloadError

from ..urllib3_import import look_for_ipv6
from .checkpoint_files import HubFile, check_file
from .hub_errors import endpoint, host, translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from huggingface_hub.hf_api import ModelInfo, RepoSibling

RETRY_WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses after connections that broke without a new byte; after one that brought some, the next follows at once."""
CHUNK_BYTES = 1 << 20
"""At most this much is lost when a connection breaks."""
_TIMEOUT_S = 20.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")


class RepositoryInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A repository at one commit."""

    repository: str
    commit: str
    """40 hexadecimal digits."""
    license: str = ""
    """As the repository's card says it; empty if it says nothing."""
    architecture: str = ""
    """First of the architectures in config.json, e.g. ``LlavaLlamaForCausalLM``."""
    n_parameters: int = 0
    """Weights of the model; 0 if the hub does not say."""
    files: list[HubFile]


def look_up(repository: str, revision: str = "") -> RepositoryInfo:
    """Ask the hub which files a repository has; nothing is downloaded.

    Args:
        repository: ``owner/name``.
        revision: commit, the beginning of one (7 digits at least), branch or tag; empty for the branch main.

    Raises:
        DownloadError: the hub cannot be reached, or there is no such repository or revision, or it may not be read.
    """
    with translated(repository, revision), _quiet():
        api = HfApi(endpoint=endpoint())
        if _SHORT_COMMIT.fullmatch(revision):
            revision = _full_commit(api, repository, revision) or revision
        info = _info(api, repository, revision)
    if not _COMMIT.fullmatch(info.sha or ""):
        raise DownloadError(f"{repository}: {host()} does not say which commit this is; try again later")
    return _listing(repository, info)


def _info(api: HfApi, repository: str, revision: str) -> ModelInfo:
    return api.model_info(repository, revision=revision or None, files_metadata=True, timeout=_TIMEOUT_S)


def _full_commit(api: HfApi, repository: str, beginning: str) -> str:
    """Return the commit that begins so; empty if none does, or several do. The hub itself takes whole hashes only."""
    newest = _info(api, repository, "").sha or ""
    if newest.startswith(beginning):
        return newest
    found = [c.commit_id for c in api.list_repo_commits(repository) if c.commit_id.startswith(beginning)]
    return found[0] if len(found) == 1 else ""


def _listing(repository: str, info: ModelInfo) -> RepositoryInfo:
    config = info.config if isinstance(info.config, dict) else {}
    architectures = config.get("architectures") or [""]
    card = info.card_data.to_dict() if info.card_data is not None else {}
    tagged = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    return RepositoryInfo(
        repository=repository,
        commit=info.sha or "",
        license=str(card.get("license_name") or card.get("license") or (tagged[0] if tagged else "")),
        architecture=str(architectures[0]),
        n_parameters=int(info.safetensors.total) if info.safetensors is not None else 0,
        files=[_file(repository, sibling) for sibling in info.siblings or []],
    )


def _file(repository: str, sibling: RepoSibling) -> HubFile:
    lfs = sibling.lfs
    n_bytes = sibling.size if lfs is None else lfs.size
    if n_bytes is None or (lfs is None and not sibling.blob_id):
        raise DownloadError(f"{repository}: {host()} states no size or no hash of {sibling.rfilename}; try again later")
    if lfs is None:
        return HubFile(path=sibling.rfilename, n_bytes=n_bytes, git_sha1=sibling.blob_id or "")
    return HubFile(path=sibling.rfilename, n_bytes=n_bytes, sha256=lfs.sha256)


def download(repository: str, commit: str, file: HubFile, folder: Path) -> None:
    """Download one file into a folder, resuming an earlier attempt, and check its hash.

    Args:
        repository: ``owner/name``.
        commit: 40 hexadecimal digits.
        file: one of the commit's files.
        folder: where it goes; a file that is there and right is not downloaded again.

    Raises:
        DownloadError: it cannot be had, or what came is not what was published; then the file is removed.
        OSError: the disk is full, or nothing may be written there.
    """
    with translated(repository, commit), _quiet():
        _bring(repository, commit, file, folder)
    try:
        check_file(folder / file.path, file)
    except DownloadError as error:
        (folder / file.path).unlink()
        raise DownloadError(f"{error}; the file is removed, the same command downloads it again") from None


def _bring(repository: str, commit: str, file: HubFile, folder: Path) -> None:
    """Download with retries; huggingface_hub's own do not cover a connection that closes in the middle of a file."""
    n_failures, n_before = 0, n_partial_bytes(folder)
    while True:
        try:
            hf_hub_download(repository, file.path, revision=commit, local_dir=folder, endpoint=endpoint())
        except requests.RequestException as error:
            if isinstance(error, HfHubHTTPError) and not _is_beyond_end(error):
                raise
            if _is_beyond_end(error):  # more was kept than there is: it cannot be gone on with
                _drop_partial(folder)
            n_now = n_partial_bytes(folder)
            n_failures = 0 if n_now > n_before else n_failures + 1
            if n_failures > len(RETRY_WAITS_S):
                raise
            n_before = n_now
            if n_failures:
                time.sleep(RETRY_WAITS_S[n_failures - 1])
        else:
            return


def n_partial_bytes(folder: Path) -> int:
    """Return how many bytes of unfinished downloads are in a folder."""
    return sum(path.stat().st_size for path in _partial(folder))


def _partial(folder: Path) -> list[Path]:
    return list((folder / ".cache" / "huggingface" / "download").glob("*.incomplete"))


def _drop_partial(folder: Path) -> None:
    for path in _partial(folder):
        path.unlink(missing_ok=True)


def _is_beyond_end(error: requests.RequestException) -> bool:
    return error.response is not None and error.response.status_code == requests.codes.requested_range_not_satisfiable


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Configure huggingface_hub for the block: plain HTTP in small pieces, no output, no connections left open.

    Xet, its other protocol, restarts an interrupted file from the beginning.
    """
    log = logging.getLogger("huggingface_hub")
    level, xet, chunk = log.level, constants.HF_HUB_DISABLE_XET, constants.DOWNLOAD_CHUNK_SIZE
    showed_bars = not are_progress_bars_disabled()
    look_for_ipv6()
    if not hasattr(tqdm, "_lock"):  # its own is for several processes, and a file in /dev/shm
        tqdm.set_lock(threading.RLock())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        constants.HF_HUB_DISABLE_XET, constants.DOWNLOAD_CHUNK_SIZE = True, CHUNK_BYTES
        disable_progress_bars()
        try:
            yield
        finally:
            get_session().close()  # it keeps connections for a next file, and an export may take an hour before that
            if showed_bars:
                enable_progress_bars()
            constants.HF_HUB_DISABLE_XET, constants.DOWNLOAD_CHUNK_SIZE = xet, chunk
            log.setLevel(level)
