"""Edit single properties of an XMP packet by byte range; every byte that is not theirs stays where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aesedge.errors import XmpError
from aesedge.xmp.packet import Packet, Property, properties_of
from aesedge.xmp.parsing import XMLNS, Element
from aesedge.xmp.property_names import OWN, PREFIXES, RDF, Name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SPACE = b" \t\r\n"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PIECES = re.compile(rb"<!--.*?-->|<\?.*?\?>|<!\[CDATA\[.*?\]\]>|[^<]+", re.DOTALL)
_LI = Name(RDF, "li")


@dataclass(frozen=True)
class Items:
    """A change of an array that others use too: only its own items come and go."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    kind: Literal["Bag", "Seq"] = "Bag"
    """Of an array that is made."""


Change = str | tuple[str, ...] | Items | None
"""A text, a whole bag of texts, items of an array, or None: the property goes."""


def edit(data: bytes, changes: Mapping[Name, Change], name: str) -> bytes:
    """Return a packet with changed properties.

    A value is replaced where it stands. What is missing is added in a Description of aesedge's own, behind the others;
    when the last of it is removed, so is the Description. An edit that changes no value returns the same bytes.

    Args:
        data: the packet.
        changes: the properties.
        name: of the file, for messages.

    Raises:
        XmpError: the packet cannot be read, or a property has a form that is not edited.
    """
    return edit_packet(Packet(data, name), changes)


def edit_packet(packet: Packet, changes: Mapping[Name, Change]) -> bytes:
    """Return a packet that is read already with changed properties, see :func:`edit`."""
    edited = _Edit(packet).apply({key: _clean(change) for key, change in changes.items()})
    return edited if edited == packet.data else _checked(edited, changes, packet.name)


def _clean(change: Change) -> Change:
    """Return a change without the characters that XML cannot hold."""
    if isinstance(change, str):
        return _NOT_XML.sub("", change).strip()
    if isinstance(change, tuple):
        return tuple(_NOT_XML.sub("", item).strip() for item in change)
    return change


def _checked(data: bytes, changes: Mapping[Name, Change], name: str) -> bytes:
    """Read the edited packet back before anybody else does."""
    packet = Packet(data, name)
    for key, change in changes.items():
        wanted = _clean(change)
        found = packet.properties(key)
        if isinstance(wanted, Items):
            items = packet.items(key)
            is_right = set(wanted.add) <= set(items) and not (set(wanted.remove) - set(wanted.add)) & set(items)
        elif wanted is None:
            is_right = not found
        else:
            is_right = len(found) == 1 and (found[0].text if isinstance(wanted, str) else found[0].items) == wanted
        if not is_right:
            raise XmpError(f"{name}: {key.local} could not be edited; the file stays as it is")
    return data


class _Edit:
    """The cuts and insertions of one edit."""

    def __init__(self, packet: Packet) -> None:
        self._packet = packet
        self._data = packet.data
        self._cuts: list[tuple[int, int, bytes]] = []
        self._removed: list[Property] = []
        self._added: list[tuple[Name, str | tuple[str, ...], str]] = []

    def apply(self, changes: Mapping[Name, Change]) -> bytes:
        """Return the edited packet."""
        for name, change in changes.items():
            found = self._packet.properties(name)
            if isinstance(change, Items):
                self._change_items(name, found, change)
            elif change is None:
                self._removed += found
            else:
                self._set(name, found, change)
        own = self._own_description() if self._added else None
        self._cut_removed(own)
        if self._added:
            self._add(own)
        parts, at = [], 0
        for start, end, new in sorted(self._cuts, key=lambda cut: cut[:2]):
            parts += [self._data[at:start], new]
            at = end
        return b"".join([*parts, self._data[at:]])

    def _set(self, name: Name, found: list[Property], value: str | tuple[str, ...]) -> None:
        if not found:
            self._added.append((name, value, "Bag"))
            return
        first, *others = found
        self._removed += others
        if isinstance(value, tuple):
            if first.array is None or first.items != value:
                self._removed.append(first)
                self._added.append((name, value, "Bag"))
        elif first.text == value and first.array is None:
            return
        elif not first.is_text:
            if name.uri != OWN:
                raise XmpError(f"{self._packet.name}: {name.local} has qualifiers or parts, and is not edited")
            self._removed.append(first)
            self._added.append((name, value, "Bag"))
        elif first.attribute is not None:
            quote = self._data[first.attribute.value_start : first.attribute.value_start + 1]
            self._cuts.append((first.attribute.value_start + 1, first.attribute.end - 1, _escaped(value, quote)))
        elif first.element is not None:
            self._set_element(first.element, value)

    def _set_element(self, element: Element, value: str) -> None:
        """Replace an element's text; comments and instructions between its parts stay."""
        if element.is_empty_tag:
            slash = self._data.rindex(b"/", element.start, element.content_start)
            closing = b">" + _escaped(value) + b"</" + element.tag + b">"
            self._cuts.append((slash, element.end, closing))
            return
        content = self._data[element.content_start : element.content_end]
        kept = [part for part in _PIECES.findall(content) if part.startswith((b"<!--", b"<?"))]
        self._cuts.append((element.content_start, element.content_end, b"".join([_escaped(value), *kept])))

    def _change_items(self, name: Name, found: list[Property], change: Items) -> None:
        here = {item for p in found for item in p.items or ()}
        add = [item for item in dict.fromkeys(change.add) if item not in here]
        remove = set(change.remove) - set(change.add)
        if not found:
            if add:
                self._added.append((name, tuple(add), change.kind))
            return
        for place in found:
            self._remove_items(place, remove, keep=bool(add) and place is found[0])
        if add:
            self._add_items(found[0], add)

    def _remove_items(self, place: Property, remove: set[str], *, keep: bool) -> None:
        if not remove & set(place.items or ()):
            return
        if place.array is None:
            raise XmpError(f"{self._packet.name}: {place.name.local} is no list, and is not edited")
        ours = [
            item
            for item, text in zip((c for c in place.array.children if c.name == _LI), place.items or (), strict=True)
            if text in remove
        ]
        content = self._data[place.array.content_start : place.array.content_end]
        if len(ours) == len(place.array.children) and not keep and b"<!--" not in content:
            self._removed.append(place)
            return
        self._cuts += [(self._space_before(item.start), item.end, b"") for item in ours]

    def _add_items(self, place: Property, items: Iterable[str]) -> None:
        array = place.array
        if array is None:
            raise XmpError(f"{self._packet.name}: {place.name.local} is no list, and is not edited")
        tag, declaration = _qualified(_LI, array.scope)
        before = self._indent(array) or b""
        start = b"<" + tag + declaration + b">"
        new = b"".join(before + start + _escaped(item) + b"</" + tag + b">" for item in items)
        if array.is_empty_tag:
            slash = self._data.rindex(b"/", array.start, array.content_start)
            self._cuts.append((slash, array.end, b">" + new + b"</" + array.tag + b">"))
        else:
            at = array.children[-1].end if array.children else array.content_start
            self._cuts.append((at, at, new))

    def _cut_removed(self, own: Element | None) -> None:
        for description in {id(p.description): p.description for p in self._removed}.values():
            gone = [p for p in self._removed if p.description is description]
            places = {id(p.attribute or p.element) for p in gone}
            left = [p for p in properties_of(description) if id(p.attribute or p.element) not in places]
            declares = [a for a in description.attributes if a.name.uri == XMLNS and a.value == OWN]
            if declares and not left and description is not own and not self._has_more(description):
                self._cuts.append((self._space_before(description.start), description.end, b""))
                continue
            for place in gone:
                if place.attribute is not None:
                    self._cuts.append((place.attribute.start, place.attribute.end, b""))
                elif place.element is not None:
                    self._cuts.append((self._space_before(place.element.start), place.element.end, b""))
            if description is not own and not any(p.name.uri == OWN for p in left):
                self._cuts += [(a.start, a.end, b"") for a in declares]

    def _has_more(self, description: Element) -> bool:
        """Whether there are comments or text in a Description besides its properties."""
        at, rest = description.content_start, b""
        for child in description.children:
            rest += self._data[at : child.start]
            at = child.end
        return bool((rest + self._data[at : description.content_end]).strip(_SPACE))

    def _own_description(self) -> Element | None:
        """Return the Description that aesedge made, if it is there and nothing else is in it."""
        for description in self._packet.descriptions:
            declares = any(a.name.uri == XMLNS and a.value == OWN for a in description.attributes)
            places = properties_of(description)
            is_own = declares and not description.is_empty_tag
            if is_own and all(p.element is not None and p.name.uri in PREFIXES for p in places):
                return description
        return None

    def _add(self, own: Element | None) -> None:
        if own is not None:
            indent = self._indent(own) or b""
            at = own.children[-1].end if own.children else own.content_start
            self._cuts.append((at, at, b"".join(indent + _element(*new, own.scope) for new in self._added)))
            return
        rdf = self._packet.rdf
        before = self._indent(rdf)
        indent = (b"\n  " if b"\n" in self._data else b"") if before is None else before
        block = indent + self._block(indent)
        if rdf.is_empty_tag:
            slash = self._data.rindex(b"/", rdf.start, rdf.content_start)
            self._cuts.append((slash, rdf.end, b">" + block + b"</" + rdf.tag + b">"))
        else:
            at = rdf.children[-1].end if rdf.children else rdf.content_start
            self._cuts.append((at, at, block))

    def _block(self, indent: bytes) -> bytes:
        """Return a new Description with all that is added."""
        scope = dict(self._packet.rdf.scope)
        about, declarations = _qualified(Name(RDF, "about"), scope, is_attribute=True)
        scope[about.partition(b":")[0].decode()] = RDF
        tag, _ = _qualified(Name(RDF, "Description"), scope)
        inner = indent + b" " if indent else b""
        for uri in dict.fromkeys([*(name.uri for name, _, _ in self._added), OWN]):
            prefix = _free_prefix(uri, scope)
            scope[prefix] = uri
            # aesedge's own namespace is declared here even if it is known above: that is how the block is recognised
            declarations += (inner + b"  " if inner else b" ") + f'xmlns:{prefix}="{uri}"'.encode()
        elements = b"".join(inner + _element(*new, scope) for new in self._added)
        start = b"<" + tag + b" " + about + b"=" + self._about() + declarations + b">"
        return start + elements + indent + b"</" + tag + b">"

    def _about(self) -> bytes:
        """Return what the packet's other Descriptions say they are about, in its quotes."""
        for description in self._packet.descriptions:
            for attribute in description.attributes:
                if attribute.name in {Name(RDF, "about"), Name("", "about")}:
                    return self._data[attribute.value_start : attribute.end]
        return b'""'

    def _indent(self, element: Element) -> bytes | None:
        """Return the white space before an element's first child, None if something else stands there."""
        if not element.children:
            return None
        before = self._data[element.content_start : element.children[0].start]
        return None if before.strip(_SPACE) else before

    def _space_before(self, at: int) -> int:
        while self._data[at - 1 : at] in (b" ", b"\t", b"\r", b"\n"):
            at -= 1
        return at


def _element(name: Name, value: str | tuple[str, ...], kind: str, scope: Mapping[str, str]) -> bytes:
    tag, declaration = _qualified(name, scope)
    if isinstance(value, str):
        content = _escaped(value)
    else:
        array, more = _qualified(Name(RDF, kind), scope)
        declaration += more
        li, _ = _qualified(_LI, {**scope, array.partition(b":")[0].decode(): RDF} if more else scope)
        items = b"".join(b"<" + li + b">" + _escaped(item) + b"</" + li + b">" for item in value)
        content = b"<" + array + b">" + items + b"</" + array + b">"
    return b"<" + tag + declaration + b">" + content + b"</" + tag + b">"


def _qualified(name: Name, scope: Mapping[str, str], *, is_attribute: bool = False) -> tuple[bytes, bytes]:
    """Return a name with a prefix, and the declaration that it needs where none of that namespace is in scope."""
    known = [prefix for prefix, uri in scope.items() if uri == name.uri and (prefix or not is_attribute)]
    if known:
        prefix = PREFIXES[name.uri] if PREFIXES[name.uri] in known else known[0]
        return (f"{prefix}:{name.local}" if prefix else name.local).encode(), b""
    prefix = _free_prefix(name.uri, scope)
    return f"{prefix}:{name.local}".encode(), f' xmlns:{prefix}="{name.uri}"'.encode()


def _free_prefix(uri: str, scope: Mapping[str, str]) -> str:
    """Return the usual prefix of a namespace, with a number where it means another one here."""
    prefix, n = PREFIXES[uri], 1
    while scope.get(prefix, uri) != uri:
        n += 1
        prefix = f"{PREFIXES[uri]}{n}"
    return prefix


def _escaped(text: str, quote: bytes = b"") -> bytes:
    """Return text as it stands in an element, or in an attribute with that quote."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    if quote:
        text = text.replace("\n", "&#10;").replace("\t", "&#9;")
        text = text.replace('"', "&quot;") if quote == b'"' else text.replace("'", "&apos;")
    return text.encode()
