"""The manifest: everything that changes what a bundle answers, as typed data; knows JSON, not folders or model files.

Reading is strict: an unknown format version, a missing, unknown or ill-typed field is a
:class:`~aesedge.errors.BundleFormatError` that names the field.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import msgspec

from aesedge.errors import BundleFormatError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a bundle may be called: it is the name of a folder too."""

AUTO_SCORE_DRIFT = 0.25
"""Points of 10 that ``--image-tokens auto`` may change scores by, on average over photos and scores."""
AUTO_NLL_CHANGE = 0.1
"""Nats per token: the critique that all image tokens lead to is on average still 90 % as likely, token by token."""

Role = Literal["vision", "llm", "card", "imatrix"]
Positive = Annotated[int, msgspec.Meta(gt=0)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Channels = tuple[float, float, float]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the weights come from."""

    checkpoint: Text
    """Name or folder of the checkpoint that was exported."""
    revision: str = ""
    """Commit or content hash of the checkpoint; empty if it has none."""
    layout: str = ""
    """Checkpoint layout that export recognised, e.g. ``hf-llava`` or ``original-llava``."""


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of the bundle."""

    path: Text
    """File name inside the bundle's folder."""
    role: Role
    type: Text
    """Precision of a vision graph (``fp32``), quantization type of a language model (``Q4_K_M``), format of a card."""
    n_bytes: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(name="bytes")
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Preprocessing that turns a photo into the tower's pixels: pad to square, resize bicubically, normalise."""

    size: Positive
    """Side of the square that the tower sees, in pixels."""
    mean: Channels
    std: Channels
    pad_color: tuple[int, int, int]
    """RGB 0..255 of the border that makes a photo square."""


class TokenPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a number of image tokens costs against all of them, measured on photos."""

    n: Positive
    """Image tokens."""
    score_drift: float
    """Mean change of the scores (overall and attributes), in points of 10."""
    worst_score_drift: float
    """The same of the photo with the largest."""
    nll_change: float
    """Change in negative log-likelihood of the critique that all image tokens lead to, in nats per token."""
    n_photos: Positive


class ImageTokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many positions of the prompt an image may take."""

    min: Positive
    max: Positive
    method: str = "none"
    """Reduction from max to fewer tokens; ``none`` means that min equals max."""
    curve: list[TokenPoint] = []
    """What fewer cost, from many to few; empty where nobody measured."""

    def auto(self) -> int:
        """Return the fewest whose measured cost, and that of all larger measured numbers, is within the tolerance."""
        fewest = self.max
        for point in sorted(self.curve, key=lambda point: -point.n):
            if point.score_drift > AUTO_SCORE_DRIFT or point.nll_change > AUTO_NLL_CHANGE:
                break
            if self.min <= point.n <= self.max:
                fewest = point.n
        return fewest


class PromptSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is written around the image."""

    template: Text
    """Name of a template of :mod:`aesedge.prompt`."""
    critique: Text
    """The question whose answer is the critique."""


class RatingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a score is read from the model's own words."""

    question: Text
    attributes: dict[str, Text]
    """Attribute name to question, in the order in which they are shown."""
    labels: dict[str, Annotated[list[Text], msgspec.Meta(min_length=1)]]
    """Label (``high``) to the answers that mean it (``High``, ``A``)."""
    weights: dict[str, Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]]
    """Label to its worth; the score is 10 times the mean worth."""


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is loaded when nothing is asked for."""

    gguf: Text
    vision: Text


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bundle's description."""

    format_version: int
    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    created_by: str
    source: Source
    license: Text
    files: Annotated[list[BundleFile], msgspec.Meta(min_length=2)]
    defaults: Defaults
    image: ImageSpec
    image_tokens: ImageTokens
    n_embd: Positive
    """Width of an image embedding, which is the width of the language model."""
    prompt: PromptSpec
    rating: RatingSpec
    fidelity: dict[str, Any] = {}
    """Figures measured at export, stage by stage."""

    def file(self, role: Role, type_: str) -> BundleFile | None:
        """Return the file of that role and type (any case), or None."""
        return next((f for f in self.files if f.role == role and f.type.lower() == type_.lower()), None)

    def types(self, role: Role) -> list[str]:
        """Return the types in which a role is there, in the manifest's order."""
        return [f.type for f in self.files if f.role == role]


class _Version(msgspec.Struct):
    format_version: int


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest strictly.

    Args:
        data: the JSON text.
        where: the file's name, for messages.

    Raises:
        BundleFormatError: the version is unknown, a field is missing, unknown or ill-typed, or fields contradict.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version != FORMAT_VERSION:
            hint = "update aesedge" if version > FORMAT_VERSION else "export the bundle again"
            raise BundleFormatError(
                f"{where}: format version {version}, this aesedge reads version {FORMAT_VERSION}; {hint}"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BundleFormatError(f"{where}: not a valid manifest: {error}; export or install the bundle again") from None
    problem = _contradiction(manifest)
    if problem:
        raise BundleFormatError(f"{where}: {problem}; export or install the bundle again")
    return manifest


def format_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as indented JSON that :func:`parse_manifest` reads back equal."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _contradiction(m: Manifest) -> str:  # noqa: PLR0911 (one return per rule)
    """Return what in the manifest contradicts itself, or an empty string."""
    for f in m.files:
        if PurePosixPath(f.path).name != f.path or f.path in {".", "..", MANIFEST_NAME} or "\\" in f.path:
            return f"file path {f.path!r} is not a plain file name"
    keys = [(f.role, f.type.lower()) for f in m.files]
    if len(set(keys)) != len(keys):
        return "two files have the same role and type"
    if m.file("llm", m.defaults.gguf) is None:
        return f"default GGUF type {m.defaults.gguf!r} is not among its files"
    if m.file("vision", m.defaults.vision) is None:
        return f"default vision precision {m.defaults.vision!r} is not among its files"
    if not 0 < m.image_tokens.min <= m.image_tokens.max:
        return f"image token range {m.image_tokens.min}..{m.image_tokens.max} is empty"
    if (m.image_tokens.min == m.image_tokens.max) != (m.image_tokens.method == "none"):
        return (
            f"image token range {m.image_tokens.min}..{m.image_tokens.max} contradicts the method "
            f"{m.image_tokens.method!r}: 'none' means that min equals max, and only that"
        )
    if set(m.rating.labels) != set(m.rating.weights) or len(m.rating.labels) < 2:
        return "labels and weights of the rating must name the same two or more labels"
    if min(m.image.std) <= 0:
        return "image std must be above 0"
    return ""
