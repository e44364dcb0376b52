"""What a catalogue holds, as rows that are read and written."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

ScoreFrom = Literal["model", "first pass"]
BurstKind = Literal["burst", "bracket"]


class FileState(NamedTuple):
    """What tells that a file was not changed since it was judged."""

    size: int
    mtime_ns: int
    ctime_ns: int
    """Of its last change on Unix, of its creation on Windows."""


class KnownFile(NamedTuple):
    """A file of the catalogue, and how far its picture was judged under the settings in use."""

    state: FileState
    content: int
    judged_as: str | None
    score_from: ScoreFrom | None
    """None where it has no score under these settings."""


@dataclass(frozen=True)
class KnownFailure:
    """A file that could not be judged."""

    state: FileState
    type: str
    """Class of the error."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is known of a picture besides its judgements."""

    width: int | None = None
    height: int | None = None
    """Of the photo, upright."""
    taken_at: float | None = None
    """Seconds since 1970 of the camera's clock, whatever its time zone."""
    camera: str | None = None
    """Maker, model and serial number."""
    exposure_s: float | None = None
    exposure_ev: float | None = None
    """Exposure compensation."""
    thumbnail: bytes | None = None
    """16 x 16 RGB."""
    sharpness: float | None = None
    """Of its sharpest parts, in photos of bursts only; comparable within one burst alone."""


@dataclass(frozen=True)
class Frame:
    """A picture's place in a burst, or in a bracket of exposures."""

    burst: int
    kind: BurstKind
    position: int
    """From 1; in a burst 1 is the best frame, in a bracket the first."""
    n_frames: int
    reason: str
    """Why it stands there, in words."""


@dataclass(frozen=True)
class Shot:
    """A picture with what decides to which burst it belongs."""

    content: int
    path: str
    about: Content
    score: float | None


@dataclass(frozen=True)
class Judgement:
    """What the bundle said of a picture."""

    score: float
    """0 to 10."""
    result: dict[str, Any]
    """The fields of ``--json`` that are not about the file or this run: ``rating``, ``attributes``, ``remarks`` …"""
    mean_row: bytes
    """Mean of its image embeddings, float16 [n_embd]; empty where it is kept already."""
    score_from: ScoreFrom = "model"
    low: float | None = None
    high: float | None = None
    """Interval of a score of the first pass, which has seen the picture through the vision tower alone."""
    critique: str | None = None
    report: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class JudgedPhoto:
    """A photo with all that the catalogue knows of it under some settings; see :meth:`Catalogue.judgements`."""

    path: str
    """Absolute; the file that was judged."""
    files: tuple[str, ...]
    """All files of the picture, ``path`` first: a JPEG and the RAW of the same name beside it."""
    is_away: bool
    """Whether the file was not there at the last ``rate``: a drive may be unplugged."""
    key: str
    """Of the picture by its pixels, hexadecimal: the same in every catalogue and for every copy."""
    content: int
    """Number of the picture in this catalogue."""
    score: float
    """0 to 10."""
    score_from: ScoreFrom
    """``model``, or ``first pass``: an estimate, which must never become a star."""
    low: float | None
    high: float | None
    """Interval of an estimate; None where the model judged."""
    attributes: dict[str, float]
    """Attribute to its score, 0 to 10; empty for an estimate."""
    result: dict[str, Any]
    """See :attr:`Judgement.result`."""
    critique: str | None
    report: dict[str, Any] | None
    """A structured critique: ``attributes``, ``strengths``, ``faults``, ``advice``."""
    frame: Frame | None
    """Its place in a burst, if it belongs to one."""
    about: Content
    settings: dict[str, Any] = field(repr=False)
    """What it was judged with: bundle, types, image tokens, hashes."""
    judged_at: float
    """Seconds since 1970."""


CONTENT_COLUMNS = tuple(each.name for each in fields(Content))
FRAME_COLUMNS = tuple(each.name for each in fields(Frame))
"""Columns of the tables that hold one record a row."""
