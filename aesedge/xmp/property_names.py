"""Name the XMP properties that are read or written."""

from __future__ import annotations

from typing import NamedTuple

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMP = "http://ns.adobe.com/xap/1.0/"
DC = "http://purl.org/dc/elements/1.1/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
LIGHTROOM = "http://ns.adobe.com/lightroom/1.0/"
XMP_DM = "http://ns.adobe.com/xmp/1.0/DynamicMedia/"
XMP_NOTE = "http://ns.adobe.com/xmp/note/"
DIGIKAM = "http://www.digikam.org/ns/1.0/"
MICROSOFT = "http://ns.microsoft.com/photo/1.0/"
ACDSEE = "http://ns.acdsee.com/iptc/1.0/"
OWN = "urn:aesedge:xmp:1.0/"
"""What aesedge says of a photo. Simple texts and bags of text only: every program keeps those of unknown namespaces."""

PREFIXES = {
    RDF: "rdf",
    XMP: "xmp",
    DC: "dc",
    PHOTOSHOP: "photoshop",
    LIGHTROOM: "lr",
    XMP_DM: "xmpDM",
    DIGIKAM: "digiKam",
    OWN: "aesedge",
}
"""The usual prefix of each namespace that is written."""


class Name(NamedTuple):
    """A name with its namespace."""

    uri: str
    """Empty for an attribute without a prefix."""
    local: str


RATING = Name(XMP, "Rating")
LABEL = Name(XMP, "Label")
SUBJECT = Name(DC, "subject")
HIERARCHICAL_SUBJECT = Name(LIGHTROOM, "hierarchicalSubject")
TAGS_LIST = Name(DIGIKAM, "TagsList")
PICK = Name(XMP_DM, "pick")
PICK_LABEL = Name(DIGIKAM, "PickLabel")
COLOR_LABEL = Name(DIGIKAM, "ColorLabel")
MICROSOFT_RATING = Name(MICROSOFT, "Rating")
ACDSEE_RATING = Name(ACDSEE, "rating")
SIDECAR_FOR_EXTENSION = Name(PHOTOSHOP, "SidecarForExtension")
HAS_EXTENDED_XMP = Name(XMP_NOTE, "HasExtendedXMP")

SCORE = Name(OWN, "Score")
ATTRIBUTES = Name(OWN, "Attributes")
CRITIQUE = Name(OWN, "Critique")
JUDGE = Name(OWN, "Judge")
JUDGED_AT = Name(OWN, "JudgedAt")
BURST = Name(OWN, "Burst")
WROTE_RATING = Name(OWN, "WroteRating")
WROTE_LABEL = Name(OWN, "WroteLabel")
WROTE_KEYWORDS = Name(OWN, "WroteKeywords")
WROTE_PICK = Name(OWN, "WrotePick")
NOTES = frozenset((WROTE_RATING, WROTE_LABEL, WROTE_KEYWORDS, WROTE_PICK))
"""What aesedge wrote into properties that people use too."""
