"""Parse an XMP packet into elements and attributes that know which bytes of it they are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

from aesedge.errors import XmpError
from aesedge.xmp.property_names import RDF, Name

MOST_BYTES = 2**26
"""Sidecars with many masks have a few megabytes."""
_BOMS = ((b"\xff\xfe\0\0", 32), (b"\0\0\xfe\xff", 32), (b"\xff\xfe", 16), (b"\xfe\xff", 16))
_ATTRIBUTE = re.compile(rb"""\s+([^\s=]+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG_END = re.compile(rb"\s*/?>")
_RESERVED = {"xml": "http://www.w3.org/XML/1998/namespace", "xmlns": "http://www.w3.org/2000/xmlns/"}
XMLNS = _RESERVED["xmlns"]


@dataclass(slots=True)
class Attribute:
    """An attribute of a start tag, or a declaration of a prefix (its namespace is then ``XMLNS``)."""

    name: Name
    value: str
    start: int
    """Where the white space before it begins."""
    value_start: int
    """Where its opening quote stands."""
    end: int


@dataclass(slots=True)
class Element:
    """An element, and the bytes that it takes."""

    name: Name
    tag: bytes
    """Its name as it is written, with the prefix."""
    start: int
    content_start: int
    """Where its start tag ends."""
    content_end: int
    end: int
    attributes: list[Attribute]
    scope: dict[str, str]
    """Prefix to namespace, inside the element."""
    parent: Element | None
    children: list[Element] = field(default_factory=list)
    text: str = ""
    """Its own text, without that of its children."""

    @property
    def is_empty_tag(self) -> bool:
        """Whether it is written as one tag, ``<a/>``."""
        return self.content_end == self.end

    def get(self, name: Name) -> str | None:
        """Return the value of an attribute."""
        return next((a.value for a in self.attributes if a.name == name), None)


def parse(data: bytes, name: str) -> Element:
    """Return the packet's ``rdf:RDF`` element; its children are the Descriptions.

    Args:
        data: a sidecar's content, or a packet inside a photo.
        name: of the file, for messages.

    Raises:
        XmpError: it is empty, not UTF-8, has a DOCTYPE, is not well-formed, or is no XMP.
    """
    _check_encoding(data, name)
    root = _Parser(data, name).run()
    found = [root] if root.name == Name(RDF, "RDF") else [e for e in root.children if e.name == Name(RDF, "RDF")]
    if len(found) != 1:
        count = "no" if not found else "more than one"
        raise XmpError(f"{name}: is XML with {count} rdf:RDF, which is no XMP; restore or delete the file")
    return found[0]


def _check_encoding(data: bytes, name: str) -> None:
    if not data.strip(b" \t\r\n\0"):
        raise XmpError(
            f"{name}: is empty, as after a program that was stopped while it wrote; restore or delete the file"
        )
    if len(data) > MOST_BYTES:
        raise XmpError(f"{name}: is longer than {MOST_BYTES >> 20} MiB, which is no XMP packet")
    bits = next((bits for bom, bits in _BOMS if data.startswith(bom)), 16 if b"\0" in data[:4] else 8)
    if bits != 8:
        raise XmpError(f"{name}: is written in UTF-{bits}, and only UTF-8 is edited; save it as UTF-8")


class _Parser:
    """One run of expat over a packet."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = data, name
        self._root: Element | None = None
        self._open: Element | None = None
        self._names: dict[tuple[str, int, str], Name] = {}
        """What names mean in each scope; scopes live as long as their elements."""
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.ordered_attributes = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._text
        self._expat.XmlDeclHandler = self._declaration
        self._expat.StartDoctypeDeclHandler = self._doctype

    def run(self) -> Element:
        try:
            self._expat.Parse(self._data, True)
        except expat.ExpatError as error:
            where = f"line {error.lineno}, column {error.offset + 1}"
            what = expat.ErrorString(error.code)
            raise XmpError(f"{self._name}: is damaged XML ({what}, {where}); restore or delete the file") from None
        if self._root is None:  # expat has refused that
            raise XmpError(f"{self._name}: has no element")
        return self._root

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in {"utf-8", "us-ascii"}:
            shown = encoding[:40]
            raise XmpError(f"{self._name}: is written in {shown}, and only UTF-8 is edited; save it as UTF-8")

    def _doctype(self, *_: object) -> None:
        raise XmpError(f"{self._name}: has a DOCTYPE, which XMP must not have; it is not read")

    def _start(self, tag: str, values: list[str]) -> None:
        start = self._expat.CurrentByteIndex
        raw = tag.encode()
        at = start + 1 + len(raw)
        spans: list[re.Match[bytes]] = []
        while len(spans) * 2 < len(values) and (found := _ATTRIBUTE.match(self._data, at)):
            spans.append(found)
            at = found.end()
        end = _TAG_END.match(self._data, at)
        if end is None or len(spans) * 2 != len(values) or not self._data.startswith(raw, start + 1):
            raise XmpError(f"{self._name}: cannot be followed byte by byte")
        names, texts = values[::2], values[1::2]
        declared = {
            name.removeprefix("xmlns").removeprefix(":"): text
            for name, text in zip(names, texts, strict=True)
            if name.startswith("xmlns") and name[5:6] in {"", ":"}
        }
        above = self._open.scope if self._open else _RESERVED
        scope = {**above, **declared} if declared else above
        attributes = [
            Attribute(self._resolved(name, scope, ""), text, span.start(), span.start(2), span.end())
            for name, text, span in zip(names, texts, spans, strict=True)
        ]
        name = self._resolved(tag, scope, scope.get("", ""))
        element = Element(name, raw, start, end.end(), end.end(), end.end(), attributes, scope, self._open)
        if self._open is not None:
            self._open.children.append(element)
        elif self._root is None:
            self._root = element
        self._open = element

    def _resolved(self, name: str, scope: dict[str, str], default: str) -> Name:
        key = (name, id(scope), default)
        known = self._names.get(key)
        if known is not None:
            return known
        prefix, colon, local = name.partition(":")
        if name == "xmlns":
            found = Name(XMLNS, "")
        elif not colon:
            found = Name(default, name)
        elif scope.get(prefix):
            found = Name(scope[prefix], local)
        else:
            raise XmpError(f"{self._name}: is damaged XML (prefix {prefix[:40]} is not declared); restore the file")
        self._names[key] = found
        return found

    def _end(self, _tag: str) -> None:
        element = self._open
        if element is None:
            return
        if not self._data.endswith(b"/>", element.start, element.content_start):
            element.content_end = self._expat.CurrentByteIndex
            element.end = self._data.index(b">", element.content_end) + 1
        self._open = element.parent

    def _text(self, text: str) -> None:
        if self._open is not None:
            self._open.text += text
