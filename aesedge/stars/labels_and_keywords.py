"""Say which properties are written for a photo, for which program, beside what a person has set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.stars.cut_points import ABSOLUTE
from aesedge.xmp.editing import Items
from aesedge.xmp.property_names import (
    ATTRIBUTES,
    BURST,
    CRITIQUE,
    HIERARCHICAL_SUBJECT,
    JUDGE,
    JUDGED_AT,
    LABEL,
    PICK,
    PICK_LABEL,
    RATING,
    SCORE,
    SUBJECT,
    TAGS_LIST,
    WROTE_KEYWORDS,
    WROTE_LABEL,
    WROTE_PICK,
    WROTE_RATING,
)

if TYPE_CHECKING:
    from aesedge.library.records import JudgedPhoto
    from aesedge.stars.cut_points import Rule
    from aesedge.xmp.editing import Change
    from aesedge.xmp.packet import Packet
    from aesedge.xmp.person import PersonValues
    from aesedge.xmp.property_names import Name
    from aesedge.xmp.sidecar import Program

_KEYWORD_ROOT = "aesedge"


@dataclass(frozen=True, kw_only=True)
class OfferOptions:
    """What is offered."""

    stars: Rule = "absolute"
    cuts: tuple[float, ...] = ABSOLUTE
    labels: tuple[tuple[str, float], ...] = ()
    """Label, and the score from which a photo has it; the highest first."""
    keywords: bool = False
    reject_below: float | None = None
    program: Program = "auto"
    embed: bool = False
    """Whether JPEGs are written into."""

    def __post_init__(self) -> None:
        if self.reject_below is not None and self.program == "captureone":
            raise UsageError("--reject-below: Capture One has no rejected photos in XMP; leave it out")


@dataclass(frozen=True)
class Offer:
    """What is to be written for a picture; None is nothing, and takes away what aesedge had written."""

    stars: int | None
    """-1 for a rejected photo."""
    label: str | None
    keyword: str | None
    kept: tuple[str, ...]
    """What a person has set, and so stays."""


def make_offer(photo: JudgedPhoto, stars: int | None, person: PersonValues, options: OfferOptions) -> Offer:
    """Return what is written for a photo, leaving out what a person has set."""
    kept = []
    rejected = options.reject_below is not None and photo.score < options.reject_below and person.pick is None
    wanted = -1 if rejected else stars
    if person.rating is not None:
        kept.append(_rating_text(person.rating))
        wanted = None
    label = next((name for name, least in options.labels if photo.score >= least), None)
    if options.labels and person.label is not None:
        kept.append(f"label {person.label!r} is a person's" if person.label else "a person took the label away")
        label = None
    if options.reject_below is not None and person.pick is not None and photo.score < options.reject_below:
        kept.append("flagged by a person")
    keyword = f"{_KEYWORD_ROOT} score {int(photo.score)}" if options.keywords else None
    return Offer(wanted, label, keyword, tuple(kept))


def _rating_text(rating: str) -> str:
    if rating in {"", "0"}:
        return "a person took the stars away"
    return "rejected by a person" if rating == "-1" else f"rated {rating} by a person"


def changes_for(
    photo: JudgedPhoto, offer: Offer, person: PersonValues, packet: Packet, options: OfferOptions
) -> dict[Name, Change]:
    """Return the changes of one packet."""
    changes: dict[Name, Change] = dict(_own_properties(photo))
    reject, value, nothing = RATING, "-1", "0"
    if options.program == "lightroom":
        reject = PICK
    elif options.program == "digikam":
        reject, value = PICK_LABEL, "1"
    is_rejected = offer.stars == -1
    stars = None if offer.stars is None or (is_rejected and reject != RATING) else str(offer.stars)
    # What is not asked for stays as an earlier run has left it.
    may_reject = options.reject_below is not None
    if options.stars != "none" or (may_reject and reject == RATING) or person.rating is not None:
        _set(changes, packet, RATING, WROTE_RATING, stars, person.rating, nothing)
    if may_reject and reject != RATING:
        _set(changes, packet, reject, WROTE_PICK, value if is_rejected else None, person.pick, nothing)
    if options.labels or person.label is not None:
        _set(changes, packet, LABEL, WROTE_LABEL, offer.label, person.label, None)
    if options.keywords:
        _set_keyword(changes, packet, offer.keyword, options.program)
    return changes


def _set(
    changes: dict[Name, Change],
    packet: Packet,
    name: Name,
    wrote: Name,
    value: str | None,
    person: str | None,
    nothing: str | None,
) -> None:
    """Add the change of a property that people use too, and of the note that says what aesedge wrote there."""
    is_ours = bool(packet.properties(wrote))
    if person is not None:
        if is_ours:
            changes[wrote] = None  # without the note it is a person's value for all later runs
    elif value is not None:
        changes |= {name: value, wrote: value}
    elif is_ours:
        changes |= {name: nothing, wrote: nothing}


def _set_keyword(changes: dict[Name, Change], packet: Packet, keyword: str | None, program: Program) -> None:
    old = packet.items(WROTE_KEYWORDS)
    if keyword is None and not old:
        return
    new = () if keyword is None else (keyword,)
    lists: dict[Name, tuple[str, bool]] = {SUBJECT: ("", False)}
    if program != "digikam":
        lists[HIERARCHICAL_SUBJECT] = (f"{_KEYWORD_ROOT}|", False)
    if program in {"digikam", "auto"}:
        lists[TAGS_LIST] = (f"{_KEYWORD_ROOT}/", True)
    for name, (root, is_ordered) in lists.items():
        changes[name] = Items(
            tuple(root + word for word in new), tuple(root + word for word in old), "Seq" if is_ordered else "Bag"
        )
    changes[WROTE_KEYWORDS] = new or None


def _own_properties(photo: JudgedPhoto) -> dict[Name, Change]:
    """Return what is said in aesedge's own namespace."""
    at = datetime.fromtimestamp(photo.judged_at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = (photo.settings.get("bundle"), photo.settings.get("gguf"), photo.settings.get("image_tokens"))
    own: dict[Name, Change] = {
        SCORE: f"{photo.score:.1f}",
        ATTRIBUTES: tuple(f"{name}={score:.1f}" for name, score in photo.attributes.items()) or None,
        JUDGE: " ".join(str(part) for part in parts if part),
        JUDGED_AT: at,
    }
    if photo.critique:
        own[CRITIQUE] = photo.critique
    if photo.frame is not None:
        own[BURST] = f"{photo.frame.position}/{photo.frame.n_frames} {photo.frame.reason}"
    return own
