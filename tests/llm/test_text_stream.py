"""Streaming: whole characters, stop strings never shown in part."""

from __future__ import annotations

import pytest

from aesedge.llm.text_stream import TextStream, split_sentences


def stream(pieces: list[bytes], stop: tuple[str, ...] = ()) -> list[str]:
    text = TextStream(stop)
    return [*(text.feed(p) for p in pieces), text.finish()]


def test_a_character_comes_out_whole() -> None:
    data = "é漢🙂".encode()
    shown = stream([data[i : i + 1] for i in range(len(data))])
    assert "".join(shown) == "é漢🙂"
    assert "\ufffd" not in "".join(shown)


def test_half_a_character_at_the_end_is_replaced_and_not_lost() -> None:
    assert "".join(stream([b"ab", "é".encode()[:1]])) == "ab\ufffd"


def test_space_before_the_first_word_is_dropped_and_no_other() -> None:
    assert "".join(stream([b" ", b" The", b" end "])) == "The end "


@pytest.mark.parametrize("cut", range(1, 12))
def test_stop_string_is_never_shown_in_part(cut: int) -> None:
    data = b"Fine.USER: more"
    shown = stream([data[:cut], data[cut:]], stop=("USER:",))
    assert "".join(shown) == "Fine."
    assert not any("U" in piece for piece in shown)


def test_what_only_looked_like_a_stop_string_comes_out() -> None:
    assert "".join(stream([b"US", b"E it"], stop=("USER:",))) == "USE it"
    assert "".join(stream([b"the US"], stop=("USER:",))) == "the US"


def test_the_earliest_of_several_stop_strings_counts() -> None:
    text = TextStream(("world", "lo"))
    assert text.feed(b"hello world") == "hel"
    assert text.stopped
    assert text.feed(b"more") + text.finish() == ""


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("The light is soft. It is 3.5 stops too dark, e.g. here.", 2),
        ("Sharp! Is it? Yes.", 3),
        ('He said "stop." Then he left.', 2),
        ("I can't tell. I judge it.", 2),
        ("1. Good light\n2. Sharp focus.", 2),
        ("- Good light.\n\n- Focus", 2),
        ("no end", 1),
        ("", 1),
    ],
)
def test_sentences(text: str, sentences: int) -> None:
    found = split_sentences(text)
    assert len(found) == sentences
    for most in range(1, sentences + 1):
        for size in (1, 3, 100):
            stream = TextStream((), most)
            pieces = [stream.feed(text[i : i + size].encode()) for i in range(0, len(text), size)]
            shown = "".join(pieces) + stream.finish()
            assert split_sentences(shown) == found[:most]
            assert stream.stopped == (most < sentences)
