"""Edits of XMP packets: foreign bytes stay, twice is once, and what is taken back leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from xmp_packets import FULL_PACKET, Piece, changes, check_laws, packets

from aesedge.errors import XmpError
from aesedge.xmp.editing import Items, edit
from aesedge.xmp.packet import NEW_PACKET, Packet
from aesedge.xmp.property_names import ATTRIBUTES, LABEL, RATING, SCORE, SUBJECT, TAGS_LIST, WROTE_RATING, Name

OURS = {RATING: "4", WROTE_RATING: "4", SCORE: "6.8", ATTRIBUTES: ("composition=7.1", "light & <shade>=2.0")}
ALL = {**OURS, SUBJECT: Items(("score 7",)), TAGS_LIST: Items(("aesedge/score 7",), kind="Seq")}
GONE = {**dict.fromkeys(OURS), SUBJECT: Items(remove=("score 7",)), TAGS_LIST: Items(remove=("aesedge/score 7",))}


@given(packets(), changes())
@settings(max_examples=120, deadline=None)
def test_laws_of_an_edit(packet: Piece, wanted: dict[Name, Any]) -> None:
    check_laws(packet, wanted)


@pytest.mark.parametrize("packet", [NEW_PACKET, FULL_PACKET], ids=["new", "full"])
def test_what_is_taken_back_leaves_no_byte(packet: bytes) -> None:
    edited = edit(packet, ALL, "x")
    read = Packet(edited, "x")
    assert (read.text(RATING), read.items(ATTRIBUTES)) == ("4", OURS[ATTRIBUTES])
    assert "score 7" in read.items(SUBJECT)
    assert edit(edited, ALL, "x") == edited
    assert edit(edited, GONE, "x") == packet


def test_a_value_is_replaced_where_it_stands() -> None:
    for before, after in (
        (b"<xmp:Rating>0</xmp:Rating>", b"<xmp:Rating>4</xmp:Rating>"),
        (b"<xmp:Rating/>", b"<xmp:Rating>4</xmp:Rating>"),
        (b"<xmp:Rating ></xmp:Rating >", b"<xmp:Rating >4</xmp:Rating >"),
        (b"<xmp:Rating><!-- a --><![CDATA[0]]><?b c?></xmp:Rating>", b"<xmp:Rating>4<!-- a --><?b c?></xmp:Rating>"),
    ):
        outside = b"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description rdf:about=''"
        outside += b" xmlns:xmp='http://ns.adobe.com/xap/1.0/'>%s</rdf:Description></rdf:RDF>"
        assert edit(outside % before, {RATING: "4"}, "x") == outside % after


def rdf(inside: str, more: str = "") -> bytes:
    namespaces = (
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"'
    )
    return f"{more}<rdf:RDF {namespaces}>{inside}</rdf:RDF>".encode()


def test_properties_of_inner_descriptions_are_not_the_photos() -> None:
    inner = '<xmp:Thing><rdf:Description xmp:Rating="5"/></xmp:Thing>'
    packet = rdf(f'<rdf:Description rdf:about="">{inner}</rdf:Description>')
    assert Packet(packet, "x").text(RATING) is None
    assert inner.encode() in edit(packet, {RATING: "2"}, "x")


@pytest.mark.parametrize(
    "form",
    [
        '<rdf:Description rdf:about="" xmp:Rating="3"/>',
        "<rdf:Description rdf:about=''><xmp:Rating>\n 3 </xmp:Rating></rdf:Description>",
        '<rdf:Description><xmp:Rating rdf:parseType="Resource"><rdf:value>3</rdf:value></xmp:Rating></rdf:Description>',
        '<rdf:Description><xmp:Rating rdf:value="3"/></rdf:Description>',
        '<rdf:Description><xmp:Rating><rdf:Description rdf:value="3"/></xmp:Rating></rdf:Description>',
        "<rdf:Description><xmp:Rating><![CDATA[3]]></xmp:Rating></rdf:Description>",
        "<rdf:Description><xmp:Rating>&#51;</xmp:Rating></rdf:Description>",
        '<rdf:Description rdf:about=""/><rdf:Description xmlns:xap="http://ns.adobe.com/xap/1.0/" xap:Rating="3"/>',
    ],
)
def test_a_rating_is_read_in_every_form(form: str) -> None:
    assert Packet(rdf(form), "x").text(RATING) == "3"


def test_a_qualified_value_is_not_edited() -> None:
    form = (
        '<rdf:Description><xmp:Rating rdf:parseType="Resource"><rdf:value>0</rdf:value></xmp:Rating></rdf:Description>'
    )
    with pytest.raises(XmpError, match=r"a\.xmp: Rating has qualifiers"):
        edit(rdf(form), {RATING: "3"}, "a.xmp")
    with pytest.raises(XmpError, match=r"a\.xmp: subject is no list"):
        edit(rdf('<rdf:Description dc:subject="sea"/>'), {SUBJECT: Items(("x",))}, "a.xmp")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\0" * 4096, "is empty"),
        (NEW_PACKET.decode().encode("utf-16"), "UTF-16"),
        (NEW_PACKET.decode().encode("utf-16-le"), "UTF-16"),
        (NEW_PACKET.decode().encode("utf-32"), "UTF-32"),
        (rdf("", '<?xml version="1.0" encoding="ISO-8859-1"?>'), "ISO-8859-1"),
        (rdf("&a;", '<!DOCTYPE x [<!ENTITY a "b">]>'), "DOCTYPE"),
        (rdf("&a;"), "undefined entity"),
        (NEW_PACKET[:-5], "damaged XML"),
        (NEW_PACKET + b"\0", "damaged XML"),
        (b'<rdf:RDF xmlns:rdf="a"><b:c/></rdf:RDF>', "prefix b is not declared"),
        (b"\x89PNG\r\n", "damaged XML"),
        (b"<x/>", "no rdf:RDF"),
        (b"<x>" + rdf("") + rdf("") + b"</x>", "more than one rdf:RDF"),
    ],
)
def test_what_is_not_edited_is_named(data: bytes, why: str) -> None:
    with pytest.raises(XmpError, match=why) as raised:
        edit(data, OURS, "a.xmp")
    assert str(raised.value).startswith("a.xmp: ")
    assert "\n" not in str(raised.value)


def test_prefixes_that_mean_something_else_are_left_alone() -> None:
    packet = rdf('<rdf:Description rdf:about="uuid:1" xmlns:aesedge="urn:other" aesedge:Score="x"/>').replace(
        b"xmlns:xmp=", b'xmlns:dc2="urn:b" xmlns:xap='
    )
    edited = edit(packet.replace(b"xmlns:rdf", b'xmlns:xmp="urn:c" xmlns:rdf'), OURS, "x")
    assert b'aesedge:Score="x"' in edited
    read = Packet(edited, "x")
    assert (read.text(SCORE), read.text(RATING)) == ("6.8", "4")
    assert edited.count(b'rdf:about="uuid:1"') == 2


@pytest.mark.parametrize(
    "packet",
    [
        rdf('<rdf:Description rdf:about=""/>', "\ufeff"),
        rdf('<rdf:Description rdf:about=""/>').replace(b"?>", b"?>\r\n").replace(b"><", b">\r\n\t<"),
        b'<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><Description about=""/></RDF>',
        b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about=""/></r:RDF>',
    ],
    ids=["bom", "crlf", "default namespace", "other prefix"],
)
def test_other_spellings(packet: bytes) -> None:
    edited = edit(packet, ALL, "x")
    assert Packet(edited, "x").items(ATTRIBUTES) == OURS[ATTRIBUTES]
    assert edit(edited, GONE, "x") == packet


def test_an_empty_rdf_element_is_opened() -> None:
    edited = edit(b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" />', OURS, "x")
    assert Packet(edited, "x").text(RATING) == "4"


def test_only_our_items_of_a_list_go() -> None:
    packet = rdf("<rdf:Description><dc:subject><rdf:Bag><rdf:li>sea</rdf:li></rdf:Bag></dc:subject></rdf:Description>")
    edited = edit(packet, {SUBJECT: Items(("score 7", "sea"))}, "x")
    assert Packet(edited, "x").items(SUBJECT) == ("sea", "score 7")
    assert Packet(edit(edited, {SUBJECT: Items(("score 8",), ("score 7",))}, "x"), "x").items(SUBJECT) == (
        "sea",
        "score 8",
    )
    assert edit(edited, {SUBJECT: Items(remove=("score 7",))}, "x") == packet


def test_characters_that_xml_cannot_hold_are_left_out() -> None:
    edited = edit(NEW_PACKET, {LABEL: "a\0b\x0bc\ud800 <&>\"'"}, "x")
    assert Packet(edited, "x").text(LABEL) == "abc <&>\"'"


def test_depth_is_no_danger() -> None:
    deep = "<rdf:value>" * 5000 + "3" + "</rdf:value>" * 5000
    packet = rdf(f"<rdf:Description><xmp:Rating>{deep}</xmp:Rating></rdf:Description>")
    assert Packet(packet, "x").text(RATING) == "3"
    assert deep.encode() in edit(packet, {SCORE: "1"}, "x")
