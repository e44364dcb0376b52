"""XMP packets in every spelling, made in code, with what photo programs store in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from aesedge.xmp.editing import edit
from aesedge.xmp.packet import Packet
from aesedge.xmp.property_names import (
    ACDSEE,
    ATTRIBUTES,
    CRITIQUE,
    DC,
    LABEL,
    OWN,
    PHOTOSHOP,
    RATING,
    RDF,
    SCORE,
    WROTE_RATING,
    XMP,
    Name,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

FULL_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000, 0000/00/00-00:00:00        ">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:darktable='http://darktable.sf.net/'
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:odd="urn:odd:things/"
   xmp:CreatorTool="Adobe Photoshop Lightroom Classic 15.0"
   crs:Version="18.0"
   crs:Exposure2012='+0.35'
   darktable:xmp_version="5"
   odd:quoted="it's &quot;so&quot; &lt;here&gt; &#x2603;">
   <crs:MaskGroupBasedCorrections>
    <rdf:Seq>
     <rdf:li>
      <rdf:Description crs:What="Correction" crs:CorrectionAmount="1.000000">
       <crs:CorrectionMasks><rdf:Seq><rdf:li crs:What="Mask/Brush" crs:MaskValue="1"/></rdf:Seq></crs:CorrectionMasks>
      </rdf:Description>
     </rdf:li>
    </rdf:Seq>
   </crs:MaskGroupBasedCorrections>
   <dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">Hello</rdf:li>
     <rdf:li xml:lang="de-DE">Hallo</rdf:li>
     <rdf:li xml:lang="fr">Bonjour</rdf:li>
    </rdf:Alt>
   </dc:description>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>sea</rdf:li>
     <rdf:li>gr\u00fcn, blau</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="exposure"
      darktable:params="gz02eJxjYGBgYAFiCQYYOOHEgAYY0QVwggZ7CB6pfNoAAE0vGQc="/>
    </rdf:Seq>
   </darktable:history>
   <xmpMM:DerivedFrom rdf:parseType="Resource"><odd:a>1</odd:a></xmpMM:DerivedFrom>
   <!-- a remark --><odd:data><![CDATA[<not> &markup;]]></odd:data>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
""".encode()
"""Masks of Lightroom, history of darktable, a caption in three languages, a namespace that nobody knows."""

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=8
)
_SPACE = st.sampled_from([" ", "\n  ", "\r\n\t", "  "])
_FOREIGN = [(DC, "source"), (XMP, "CreatorTool"), (PHOTOSHOP, "City"), (ACDSEE, "rating"), ("urn:odd/", "Thing")]
_OURS = [RATING, LABEL, SCORE, CRITIQUE, ATTRIBUTES, WROTE_RATING]


@dataclass
class Piece:
    """A part of a packet, which an edit of all those properties may change; of parts, if not of the whole."""

    parts: str | list[Piece]
    names: frozenset[Name] | None = None

    @property
    def text(self) -> str:
        return self.parts if isinstance(self.parts, str) else "".join(part.text for part in self.parts)

    def fixed(self, changed: Collection[Name]) -> Iterator[str | None]:
        """Yield what must stay, in order, and None where something may change."""
        if self.names is not None and self.names <= set(changed):
            yield None
        elif isinstance(self.parts, str):
            yield self.parts
        else:
            for part in self.parts:
                yield from part.fixed(changed)


def foreign_bytes_kept(packet: Piece, edited: bytes, changed: Collection[Name]) -> bool:
    """Whether all bytes stay, in order, but those of the changed properties and what is put in their places."""
    found = [b".*?" if text is None else re.escape(text.encode()) for text in packet.fixed(changed)]
    return re.fullmatch(b"".join(found), edited, re.DOTALL) is not None


def _escaped(text: str, quote: str = "\0") -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace(quote, "&quot;" if quote == '"' else "&#39;")


@st.composite
def packets(draw: st.DrawFn) -> Piece:
    """A packet of one to three Descriptions with foreign properties, and some that are edited."""
    prefixes = {RDF: draw(st.sampled_from(["rdf", "r"])), XMP: draw(st.sampled_from(["xmp", "xap"])), DC: "dc"}
    prefixes |= {PHOTOSHOP: "photoshop", ACDSEE: "a", "urn:odd/": "odd", OWN: draw(st.sampled_from(["aesedge", "z"]))}
    above = draw(st.sets(st.sampled_from([XMP, DC, OWN, "urn:odd/"])))
    space = draw(_SPACE) if draw(st.booleans()) else ""
    names = draw(st.permutations([*(Name(*f) for f in _FOREIGN), *_OURS]))[: draw(st.integers(0, 9))]
    n = draw(st.integers(1, 3))
    parts = [_description(draw, names[i::n], prefixes, above, space) for i in range(n)]
    parts += [Piece("", frozenset()), Piece(f"{space}</{prefixes[RDF]}:RDF>")]
    declared = "".join(f' xmlns:{prefixes[uri]}="{uri}"' for uri in [RDF, *sorted(above)])
    before, after = f"<{prefixes[RDF]}:RDF{declared}>", ""
    if draw(st.booleans()):
        comment = draw(st.sampled_from(["", "a < b"]))
        before = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{space}<!-- {comment} -->{before}'
        after = "</x:xmpmeta>"
    if draw(st.booleans()):
        before = f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{before}'
        after += " " * 40 + '\n<?xpacket end="w"?>'
    elif draw(st.booleans()):
        before = '<?xml version="1.0" encoding="UTF-8"?>\n' + before
    return Piece([Piece(draw(st.sampled_from(["", "\ufeff"])) + before), *parts, Piece(after)])


def _description(draw: st.DrawFn, names: list[Name], prefixes: dict[str, str], above: set[str], space: str) -> Piece:
    rdf = prefixes[RDF]
    own = frozenset(name for name in names if name.uri == OWN)
    attributes = [Piece(f'{rdf}:about=""')] if draw(st.booleans()) else []
    attributes += [
        Piece(f'xmlns:{prefixes[uri]}="{uri}"', own if uri == OWN else None)
        for uri in sorted({name.uri for name in names} - above)
    ]
    elements = []
    for name in names:
        tag = f"{prefixes[name.uri]}:{name.local}"
        may_change = frozenset([name]) if name in _OURS else None
        if name == ATTRIBUTES:
            elements.append(Piece(_bag(draw, tag, rdf), may_change))
        elif draw(st.booleans()):
            quote, equals = draw(st.sampled_from("\"'")), draw(st.sampled_from(["=", " = "]))
            attributes.append(Piece(f"{tag}{equals}{quote}{_escaped(draw(_TEXT), quote)}{quote}", may_change))
        else:
            elements.append(Piece(_element(draw, tag, rdf, is_ours=name in _OURS), may_change))
    between, inner = draw(_SPACE), draw(_SPACE) if draw(st.booleans()) else ""
    parts = [Piece(f"{space}<{rdf}:Description")]
    parts += [Piece(between + a.text, a.names) for a in draw(st.permutations(attributes))]
    if not elements and draw(st.booleans()):
        parts.append(Piece("/>"))
    else:
        parts += [Piece(">"), *(Piece(inner + e.text, e.names) for e in elements)]
        declares = own and OWN not in above
        parts += [Piece("", frozenset()) if declares else Piece(""), Piece(f"{inner}</{rdf}:Description>")]
    is_ours = own and OWN not in above and all(name in _OURS for name in names)
    return Piece(parts, frozenset(names) if is_ours else None)


def _bag(draw: st.DrawFn, tag: str, rdf: str) -> str:
    items = "".join(f"<{rdf}:li>{_escaped(item)}</{rdf}:li>" for item in draw(st.lists(_TEXT, max_size=3)))
    return f"<{tag}><{rdf}:Bag>{items}</{rdf}:Bag></{tag}>" if items else f"<{tag}><{rdf}:Bag/></{tag}>"


def _element(draw: st.DrawFn, tag: str, rdf: str, *, is_ours: bool) -> str:
    text = _escaped(draw(_TEXT))
    forms = [f"<{tag}>{text}</{tag}>", f"<{tag}><![CDATA[{text}]]></{tag}>", f"<{tag}/>"]
    if not is_ours:
        forms += [
            f"<{tag}><!-- 1 --><{rdf}:Alt><{rdf}:li xml:lang='x-default'>{text}</{rdf}:li></{rdf}:Alt></{tag}>",
            f"<{tag} {rdf}:parseType='Resource'><{tag}>{text}</{tag}></{tag}>",
            f"<{tag}><{rdf}:Description xmlns:i='urn:i/'><i:Rating>5</i:Rating></{rdf}:Description></{tag}>",
            f"<{tag}>{text}<?odd instruction?></{tag}>",
        ]
    return draw(st.sampled_from(forms))


def changes() -> st.SearchStrategy[dict[Name, Any]]:
    """Values for some of the properties that aesedge writes."""
    value = _TEXT.map(str.strip)
    simple = st.dictionaries(st.sampled_from([n for n in _OURS if n != ATTRIBUTES]), st.none() | value, max_size=5)
    bags = st.none() | st.lists(value, min_size=1, max_size=3).map(tuple)
    bag = st.just({}) | bags.map(lambda v: {ATTRIBUTES: v})
    return st.tuples(simple, bag).map(lambda parts: {**parts[0], **parts[1]})


def check_laws(packet: Piece, wanted: dict[Name, Any]) -> None:
    """Check what must hold for every edit of every packet."""
    before = packet.text.encode()
    edited = edit(before, wanted, "x")
    assert foreign_bytes_kept(packet, edited, wanted)
    assert edit(edited, wanted, "x") == edited
    read = Packet(edited, "x")
    for name, value in wanted.items():
        assert (read.text(name) if isinstance(value, str) else read.items(name) or None) == value
    absent = {name: value for name, value in wanted.items() if not Packet(before, "x").properties(name)}
    assert edit(edit(before, absent, "x"), dict.fromkeys(absent), "x") == before


N_EDITS_OF_LAWS = 4
"""How often :func:`check_laws` edits."""
