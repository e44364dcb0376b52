"""Define every error that aesedge raises.

AesedgeError                      every error of ours: one line that says what, where, and what to do
├── UsageError                    (also ValueError)         the call itself is wrong
├── ImageError                    (also ValueError)         a photo cannot be read
│   ├── ImageNotFoundError        (also FileNotFoundError)
│   └── ImageTooLargeError        bytes or pixels beyond the limit, found before decoding
├── BundleError                   a bundle cannot be used
│   ├── BundleNotFoundError       (also FileNotFoundError)
│   ├── BundleFormatError         (also ValueError)         the manifest or a model file is not as it must be
│   └── BundleIntegrityError      a file is missing, or its size or hash is not the manifest's
├── CheckpointError               (also ValueError)         a checkpoint cannot be exported
├── DownloadError                 a checkpoint cannot be downloaded, or what came is not what was promised
├── MissingExtraError             (also ImportError)        a package of an optional extra is not installed
├── ProviderError                 an execution provider that was asked for is not active
├── ModelLoadError                llama.cpp or ONNX Runtime refuses a file
│   └── MemoryFitError            it would not fit this machine's memory, found before loading
├── ContextFullError              the prompt does not fit the context
├── InferenceError                a runtime failed in the middle of its work
└── ParityError                   an export differs from its reference
"""

from __future__ import annotations

__all__ = [
    "AesedgeError",
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleNotFoundError",
    "CheckpointError",
    "ContextFullError",
    "DownloadError",
    "ImageError",
    "ImageNotFoundError",
    "ImageTooLargeError",
    "InferenceError",
    "MemoryFitError",
    "MissingExtraError",
    "ModelLoadError",
    "ParityError",
    "ProviderError",
    "UsageError",
]


class AesedgeError(Exception):
    """Base of every error of aesedge; its text is one line, written to be shown to the user."""


class UsageError(AesedgeError, ValueError):
    """The call is wrong: an unknown option value, nothing to look at."""


class ImageError(AesedgeError, ValueError):
    """A photo cannot be read."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """There is no such photo."""


class ImageTooLargeError(ImageError):
    """A photo is beyond the limit of bytes or pixels."""


class BundleError(AesedgeError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no such bundle, or no such type in it."""


class BundleFormatError(BundleError, ValueError):
    """A manifest, or a model file that it names, is not as it must be."""


class BundleIntegrityError(BundleError):
    """A file of a bundle is missing or altered."""


class CheckpointError(AesedgeError, ValueError):
    """A checkpoint cannot be exported."""


class DownloadError(AesedgeError):
    """A checkpoint cannot be downloaded, or what came is not what was promised."""


class MissingExtraError(AesedgeError, ImportError):
    """An optional package is needed and not installed.

    Args:
        what: what was asked for, e.g. ``"a.heic is a HEIC file"``.
        extra: the extra of aesedge that brings the package.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what}: this needs the extra '{extra}'. Install it with: pip install 'aesedge[{extra}]'")
        self.extra = extra


class ProviderError(AesedgeError):
    """An execution provider that was asked for is not active."""


class ModelLoadError(AesedgeError):
    """A runtime refuses a model file."""


class MemoryFitError(ModelLoadError):
    """A bundle would not fit this machine's memory, or the user's budget, with these options."""


class ContextFullError(AesedgeError):
    """The prompt does not fit the context."""


class InferenceError(AesedgeError):
    """A runtime failed in the middle of its work."""


class ParityError(AesedgeError):
    """An export differs from its reference by more than the stated tolerance."""
