"""Read and write the manifest: everything that changes what a bundle answers, as typed data.

Reading is strict: an unknown format version, a missing, unknown or ill-typed field is a
:class:`~aesedge.errors.BundleFormatError` that names the field.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

import msgspec

from aesedge.bundle.fidelity import Fidelity
from aesedge.errors import BundleFormatError
from aesedge.image.image_spec import ImageSpec
from aesedge.llm.prompt import TEMPLATES
from aesedge.system.error_text import shortened
from aesedge.system.machine import is_small_model

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_MAX_BYTES = 1 << 22
"""A manifest has about 10 kB; a longer file is refused unread."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z"
"""Pattern of a bundle's name, which is also the name of its folder."""

AUTO_SCORE_DRIFT = 0.25
"""Points of 10 that ``--image-tokens auto`` may change scores by, on average over photos and scores."""
AUTO_NLL_CHANGE = 0.1
"""Nats per token: the critique that all image tokens lead to is on average still 90 % as likely, token by token."""

Role = Literal["vision", "llm", "card", "imatrix"]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Note = Annotated[str, msgspec.Meta(max_length=1000)]
Question = Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
TypeName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")]
"""Part of the names of files in the cache folder."""
Positions = Annotated[int, msgspec.Meta(gt=0, le=8192)]
"""Image tokens: each takes a position of the context."""
Points = Annotated[float, msgspec.Meta(ge=0.0, le=10.0)]
Count = Annotated[int, msgspec.Meta(gt=0, le=2**53)]

_LEAST_STD = 1e-3
_FILE_NAME = re.compile(r'(?!\.)[^\x00-\x1f\x7f-\x9f/\\:*?"<>|\u2028\u2029]{1,200}(?<![. ])')
"""A plain name on every system: no folders, drives, wildcards or control characters."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the weights come from."""

    checkpoint: Text
    """Name or folder of the checkpoint that was exported."""
    revision: Note = ""
    """Commit or content hash of the checkpoint; empty if it has none."""
    layout: Note = ""
    """Checkpoint layout that export recognised, e.g. ``hf-llava`` or ``original-llava``."""


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of the bundle."""

    path: Text
    """File name inside the bundle's folder."""
    role: Role
    type: TypeName
    """Precision of a vision graph (``fp32``), quantization type of a language model (``Q4_K_M``), format of a card."""
    n_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = msgspec.field(name="bytes")
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class TokenPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a number of image tokens costs against all of them, measured on photos."""

    n: Positions
    """Image tokens."""
    score_drift: Points
    """Mean change of the scores (overall and attributes), in points of 10."""
    worst_score_drift: Points
    """The same of the photo with the largest."""
    nll_change: Annotated[float, msgspec.Meta(ge=-1000.0, le=1000.0)]
    """Change in negative log-likelihood of the critique that all image tokens lead to, in nats per token."""
    n_photos: Count


class ImageTokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many positions of the prompt an image may take."""

    min: Positions
    max: Positions
    method: Note = "none"
    """Reduction from max to fewer tokens; ``none`` means that min equals max."""
    curve: Annotated[list[TokenPoint], msgspec.Meta(max_length=1000)] = []
    """What fewer cost, from many to few; empty if it was not measured."""

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
    """Name of a template of :mod:`aesedge.llm.prompt`."""
    critique: Question
    """The question whose answer is the critique."""


class RatingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a score is read from the model's own words."""

    question: Question
    attributes: Annotated[dict[Text, Question], msgspec.Meta(max_length=64)]
    """Attribute name to question, in the order in which they are shown."""
    labels: Annotated[
        dict[Text, Annotated[list[Text], msgspec.Meta(min_length=1, max_length=32)]], msgspec.Meta(max_length=32)
    ]
    """Label (``high``) to the answers that mean it (``High``, ``A``)."""
    weights: dict[Text, Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]]
    """Label to its worth; the score is 10 times the mean worth."""


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is loaded when nothing is asked for."""

    gguf: TypeName
    vision: TypeName


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bundle's description."""

    format_version: int
    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    created_by: Note
    source: Source
    license: Text
    files: Annotated[list[BundleFile], msgspec.Meta(min_length=2, max_length=200)]
    defaults: Defaults
    image: ImageSpec
    image_tokens: ImageTokens
    n_embd: Annotated[int, msgspec.Meta(gt=0, le=65_536)]
    """Width of an image embedding, which is the width of the language model."""
    prompt: PromptSpec
    rating: RatingSpec
    fidelity: Fidelity = Fidelity()
    """Figures measured at export, stage by stage."""

    def file(self, role: Role, type_: str) -> BundleFile | None:
        """Return the file of that role and type (any case), or None."""
        return next((f for f in self.files if f.role == role and f.type.lower() == type_.lower()), None)

    def has_small_llm(self, gguf: str | None = None) -> bool:
        """Return whether the language model of that type, or of the default one, is a small one."""
        file = self.file("llm", gguf or self.defaults.gguf)
        return file is not None and is_small_model(file.n_bytes)

    def types(self, role: Role) -> list[str]:
        """Return the types in which a role is there, in the manifest's order."""
        return [f.type for f in self.files if f.role == role]


class _Version(msgspec.Struct):
    format_version: int


class _NamedFile(msgspec.Struct):
    path: str


class _AnySource(msgspec.Struct):
    checkpoint: str = ""
    layout: str = ""


class _AnyManifest(msgspec.Struct):
    """The part of a manifest that all format versions share."""

    format_version: int
    files: list[_NamedFile]
    source: _AnySource = msgspec.field(default_factory=_AnySource)


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
                f"{where}: format version {shortened(version)}, this aesedge reads version {FORMAT_VERSION}; {hint}"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BundleFormatError(
            f"{where}: not a valid manifest: {shortened(error)}; export or install the bundle again"
        ) from None
    problem = _contradiction(manifest)
    if problem:
        raise BundleFormatError(f"{where}: {problem}; export or install the bundle again")
    return manifest


class ManifestSummary(NamedTuple):
    """What can be read from a manifest of any format version."""

    files: set[str]
    """Plain names in its folder."""
    checkpoint: str = ""
    layout: str = ""


def read_summary(data: bytes) -> ManifestSummary | None:
    """Return what a manifest of any format version lists, or None if it is not one of ours."""
    try:
        found = msgspec.json.decode(data, type=_AnyManifest)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    names = {file.path for file in found.files if _FILE_NAME.fullmatch(file.path)}
    return ManifestSummary(names, found.source.checkpoint, found.source.layout)


def format_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as indented JSON that :func:`parse_manifest` reads back equal."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _contradiction(m: Manifest) -> str:
    """Return the first contradiction in a manifest, or an empty string."""
    return _wrong_files(m) or _wrong_tokens(m.image_tokens) or _wrong_answers(m)


def _wrong_files(m: Manifest) -> str:
    for f in m.files:
        if not _FILE_NAME.fullmatch(f.path) or f.path.lower() == MANIFEST_NAME:
            return f"file path {shortened(repr(f.path))} is not a plain file name"
    if len({f.path.lower() for f in m.files}) != len(m.files):
        return "two files have the same path"
    keys = [(f.role, f.type.lower()) for f in m.files]
    if len(set(keys)) != len(keys):
        return "two files have the same role and type"
    if m.file("llm", m.defaults.gguf) is None:
        return f"default GGUF type {m.defaults.gguf!r} is not among its files"
    if m.file("vision", m.defaults.vision) is None:
        return f"default vision precision {m.defaults.vision!r} is not among its files"
    return ""


def _wrong_tokens(tokens: ImageTokens) -> str:
    if tokens.min > tokens.max:
        return f"image token range {tokens.min}..{tokens.max} is empty"
    if (tokens.min == tokens.max) != (tokens.method == "none"):
        return (
            f"image token range {tokens.min}..{tokens.max} contradicts the method {shortened(repr(tokens.method))}: "
            "'none' means that min equals max, and only that"
        )
    return ""


def _wrong_answers(m: Manifest) -> str:
    if set(m.rating.labels) != set(m.rating.weights) or len(m.rating.labels) < 2:
        return "labels and weights of the rating must name the same two or more labels"
    if min(m.image.std) < _LEAST_STD:
        return f"image std must be {_LEAST_STD} or more"
    if m.prompt.template not in TEMPLATES:
        return f"unknown prompt template {shortened(repr(m.prompt.template))}; there are {', '.join(TEMPLATES)}"
    return ""
