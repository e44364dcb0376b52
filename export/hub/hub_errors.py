"""Translate huggingface_hub's errors, without tokens or signed URLs in their text."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from aesedge.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Iterator


_LOG_IN = "log in with 'hf auth login' or set HF_TOKEN"
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (OfflineModeIsEnabled, "{repository}: the environment says this machine is offline; unset HF_HUB_OFFLINE"),
    (HFValidationError, "{repository!r} is not a name that a repository can have; check it"),
    (
        GatedRepoError,
        "{repository}: a gated repository: accept the terms on its page on {host}, then " + _LOG_IN,
    ),
    (
        RepositoryNotFoundError,
        "{repository}: {host} has no such repository, or it is private: check the name, or " + _LOG_IN,
    ),
    (EntryNotFoundError, "{repository}: a file that it lists is not there any more; try again later"),
    (
        requests.exceptions.SSLError,
        "{host}: its certificate is not accepted; check this machine's date, its proxy and REQUESTS_CA_BUNDLE",
    ),
    (
        requests.exceptions.ChunkedEncodingError,
        "{repository}: the connection to {host} broke again and again; the same command goes on from there",
    ),
)
_UNREACHABLE = "{host} cannot be reached; check the network and HF_ENDPOINT; what was downloaded is kept"
_STATUS_WORDS = {
    401: "{repository}: {host} refuses (HTTP 401): check that HF_TOKEN is valid and may read this repository",
    403: "{repository}: {host} refuses (HTTP 403): check that HF_TOKEN may read this repository",
    429: "{repository}: {host} asks to slow down (HTTP 429); wait some minutes, or " + _LOG_IN,
}
_STATUS_OTHERWISE = "{repository}: {host} answers with HTTP {status}; try again later, what was downloaded is kept"


class UnknownRevisionError(DownloadError):
    """The repository has no such revision."""


def endpoint() -> str:
    """Return the hub's address; asked anew each time, huggingface_hub reads the environment only once."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def host() -> str:
    """Return the hub's name for messages: an address may hold a password."""
    return urlsplit(endpoint()).hostname or "the hub"


@contextlib.contextmanager
def translated(repository: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub and requests raise into our errors.

    Args:
        repository: ``owner/name``, for the message.
        revision: what was asked for, for the message.

    Raises:
        UnknownRevisionError: the repository has no such revision.
        DownloadError: everything else; errors of the disk pass as they are.
    """
    try:
        yield
    except RevisionNotFoundError:
        raise UnknownRevisionError(
            f"{repository}: there is no revision {revision or 'main'!r}; give a commit, a branch or a tag"
        ) from None
    except (requests.RequestException, FileMetadataError, HFValidationError, OfflineModeIsEnabled) as error:
        raise DownloadError(_words(error, repository)) from None
    except OSError as error:
        if error.errno is not None:
            raise
        # huggingface_hub raises a bare OSError where a file ends with another size than was announced.
        raise DownloadError(f"{repository}: a file came with another size than announced; start again") from None


def _words(error: Exception, repository: str) -> str:
    """Return a message for an error; the libraries' own texts may contain signed URLs."""
    if isinstance(error, LocalEntryNotFoundError):  # says only that a file could not be looked up
        error = error.__cause__ if isinstance(error.__cause__, Exception) else requests.ConnectionError()
    template = next((words for kind, words in _WORDS if isinstance(error, kind)), _UNREACHABLE)
    status = error.response.status_code if isinstance(error, requests.HTTPError) and error.response is not None else 0
    if status and template == _UNREACHABLE:
        template = _STATUS_WORDS.get(status, _STATUS_OTHERWISE)
    return template.format(repository=repository, host=host(), status=status)
