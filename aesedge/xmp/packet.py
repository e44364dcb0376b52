"""Read properties of an XMP packet, in every form in which programs write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.xmp.parsing import XMLNS, Attribute, Element, parse
from aesedge.xmp.property_names import OWN, RDF, Name

if TYPE_CHECKING:
    from collections.abc import Iterator

_ARRAYS = {Name(RDF, kind) for kind in ("Bag", "Seq", "Alt")}
_ITEM, _VALUE, _DESCRIPTION = Name(RDF, "li"), Name(RDF, "value"), Name(RDF, "Description")
_NO_PROPERTIES = {"", RDF, XMLNS, "http://www.w3.org/XML/1998/namespace"}
"""Namespaces of attributes of a Description that are no properties; ``about`` may stand without a prefix."""

NEW_PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    b" </rdf:RDF>\n"
    b"</x:xmpmeta>\n"
)
"""A sidecar without any property."""


@dataclass(frozen=True, slots=True)
class Property:
    """A property of the photo, as an attribute of a Description or as an element inside it."""

    name: Name
    description: Element
    attribute: Attribute | None
    element: Element | None

    @property
    def array(self) -> Element | None:
        """The array that is its value."""
        if self.element is None or len(self.element.children) != 1:
            return None
        child = self.element.children[0]
        return child if child.name in _ARRAYS else None

    @property
    def is_text(self) -> bool:
        """Whether its value is a plain text, without qualifiers and parts."""
        return self.element is None or not (
            self.element.children or any(a.name.uri != XMLNS for a in self.element.attributes)
        )

    @property
    def text(self) -> str | None:
        """Its value if that is one text, white space around it left out; None for an array or a structure."""
        if self.attribute is not None:
            return self.attribute.value.strip()
        return None if self.element is None else _text_of(self.element)

    @property
    def items(self) -> tuple[str, ...] | None:
        """The items of an array; a text is an array of one item, a structure None."""
        if self.array is not None:
            return tuple(_text_of(item) or "" for item in self.array.children if item.name == _ITEM)
        return None if self.text is None else (self.text,)


class Packet:
    """A parsed packet.

    Args:
        data: a sidecar's content, or a packet inside a photo.
        name: of the file, for messages.

    Raises:
        XmpError: it is empty, not UTF-8, has a DOCTYPE, is not well-formed, or is no XMP.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.rdf = parse(data, name)
        self.descriptions = [e for e in self.rdf.children if e.name == _DESCRIPTION]
        self._properties: dict[Name, list[Property]] = {}
        for found in (p for description in self.descriptions for p in properties_of(description)):
            self._properties.setdefault(found.name, []).append(found)

    def properties(self, name: Name) -> list[Property]:
        """Return every place where a property stands; more than one is against the rules, and happens."""
        return self._properties.get(name, [])

    def text(self, name: Name) -> str | None:
        """Return a property's value, None if it is absent or no text."""
        return next((p.text for p in self.properties(name)), None)

    def texts(self, name: Name) -> list[str]:
        """Return the values of all places where a property stands; an array or a structure counts as ``?``."""
        return ["?" if p.text is None else p.text for p in self.properties(name)]

    def items(self, name: Name) -> tuple[str, ...]:
        """Return the items of an array, of all places where it stands."""
        return tuple(item for p in self.properties(name) for item in p.items or ())

    @property
    def is_ours(self) -> bool:
        """Whether it has a property of aesedge's own."""
        return any(name.uri == OWN for name in self._properties)


def properties_of(description: Element) -> Iterator[Property]:
    """Yield the properties of a Description."""
    for attribute in description.attributes:
        if attribute.name.uri not in _NO_PROPERTIES:
            yield Property(attribute.name, description, attribute, None)
    for child in description.children:
        yield Property(child.name, description, None, child)


def _text_of(element: Element) -> str | None:
    """Return the text of a property or an item: its own, or its ``rdf:value`` where it has qualifiers."""
    at: Element | None = element
    while at is not None:
        value = at.get(_VALUE)
        if value is not None:
            return value.strip()
        if not at.children:
            resource = at.get(Name(RDF, "resource"))
            return at.text.strip() if resource is None else resource
        parts = at.children
        is_description = len(parts) == 1 and parts[0].name == _DESCRIPTION
        at = parts[0] if is_description else next((part for part in parts if part.name == _VALUE), None)
    return None
