"""Define every error that aesedge raises; each text is one line that says what is wrong, where, and what to do.

AesedgeError                      base of all
├── UsageError                    (also ValueError)         a wrong option, argument or call
├── ImageError                    (also ValueError)         a photo cannot be read
│   ├── ImageNotFoundError        (also FileNotFoundError)
│   └── ImageTooLargeError        too many bytes or pixels, found before decoding
├── BundleError                   a bundle cannot be used
│   ├── BundleNotFoundError       (also FileNotFoundError)
│   ├── BundleFormatError         (also ValueError)         the manifest or a model file is malformed
│   └── BundleIntegrityError      a file is missing, or differs from the manifest
├── CheckpointError               (also ValueError)         a checkpoint cannot be exported
├── CatalogueError                a library's catalogue cannot be used
│   └── CatalogueBusyError        another process writes to it
├── DownloadError                 a download failed, or its checksum does not match
├── MissingExtraError             (also ImportError)        a package of an optional extra is not installed
├── ProviderError                 the requested execution provider is not active
├── ModelLoadError                llama.cpp or ONNX Runtime refuses a file
│   └── MemoryFitError            too large for the memory, found before loading
├── ContextFullError              the prompt does not fit the context
├── XmpError                      (also ValueError)         XMP of a photo cannot be read or edited
├── InferenceError                a runtime failed during inference
└── ParityError                   an export differs from its reference
"""

from __future__ import annotations

__all__ = [
    "AesedgeError",
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleNotFoundError",
    "CatalogueBusyError",
    "CatalogueError",
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
    "XmpError",
]


class AesedgeError(Exception):
    """Base of every error of aesedge."""


class UsageError(AesedgeError, ValueError):
    """An option, an argument or the call itself is wrong."""


class ImageError(AesedgeError, ValueError):
    """A photo cannot be read."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """A photo does not exist."""


class ImageTooLargeError(ImageError):
    """A photo has too many bytes or pixels."""


class BundleError(AesedgeError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """A bundle does not exist, or has no model file of the requested type."""


class BundleFormatError(BundleError, ValueError):
    """The manifest, or a model file it lists, is malformed."""


class BundleIntegrityError(BundleError):
    """A file of a bundle is missing, or differs from the manifest."""


class CheckpointError(AesedgeError, ValueError):
    """A checkpoint cannot be exported."""


class CatalogueError(AesedgeError):
    """A library's catalogue cannot be read or written."""


class CatalogueBusyError(CatalogueError):
    """Another process writes to a library's catalogue."""


class DownloadError(AesedgeError):
    """A download failed, or its checksum does not match."""


class MissingExtraError(AesedgeError, ImportError):
    """A package of an optional extra is not installed.

    Args:
        what: what needs it, e.g. ``"a.heic is a HEIC file"``.
        extra: the extra of aesedge that installs the package.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what}: this needs the extra '{extra}'. Install it with: pip install 'aesedge[{extra}]'")
        self.extra = extra


class ProviderError(AesedgeError):
    """The requested execution provider is not active."""


class ModelLoadError(AesedgeError):
    """llama.cpp or ONNX Runtime refuses a model file."""


class MemoryFitError(ModelLoadError):
    """A bundle would not fit the memory of this machine, or the limit that the user set."""


class ContextFullError(AesedgeError):
    """The prompt does not fit the context."""


class InferenceError(AesedgeError):
    """A runtime failed during inference."""


class ParityError(AesedgeError):
    """An export differs from its reference by more than the tolerance."""


class XmpError(AesedgeError, ValueError):
    """The XMP of a photo cannot be read or edited; the file stays as it is."""
