"""Whatever order aesedge, a person and other programs come in: a person's value stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judged_library import judge
from test_stars import rate_by_hand, stars, value

from aesedge.xmp.packet import Packet
from aesedge.xmp.property_names import WROTE_RATING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("stars"), st.sampled_from(["", "--stars=share", "--cuts=1,2,3,4", "--embed", "--keywords"])),
        st.tuples(st.just("person"), st.sampled_from(["-1", "1", "3", "5"])),
        st.tuples(st.just("undo"), st.just("")),
        st.tuples(st.just("reserialise"), st.just("")),
    ),
    min_size=2,
    max_size=7,
)


@given(ACTIONS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_order_changes_a_persons_value(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("photos")
    judge(folder, {"a.jpg": 8.4, "b.jpg": 5.0})
    sidecar, chosen, was_seen = folder / "a.jpg.xmp", None, False
    for action, argument in actions:
        if action == "person":
            rate_by_hand(sidecar, argument)
            # Whoever sets what aesedge has written, and never anything else that a run saw, changes no byte.
            chosen = argument if was_seen or value(sidecar, WROTE_RATING) != argument else None
        elif action == "reserialise" and sidecar.exists():
            reserialise(sidecar)
        elif action == "stars":
            assert stars(folder, *filter(None, [argument, "--quiet"])) == 0
            was_seen = was_seen or chosen is not None
        elif action == "undo":
            stars("--undo", "--quiet")
        if chosen is not None:
            assert value(sidecar) == chosen, actions


def reserialise(path: Path) -> None:
    """Write a sidecar as another program does: all properties as attributes and elements of one Description."""
    packet = Packet(path.read_bytes(), "x")
    found = {name: packet.properties(name)[0] for name in packet._properties}
    uris = {uri: f"ns{i}" for i, uri in enumerate(sorted({name.uri for name in found}))}
    declared = "".join(f' xmlns:{prefix}="{uri}"' for uri, prefix in uris.items())
    attributes, elements = "", ""
    for name, place in found.items():
        tag = f"{uris[name.uri]}:{name.local}"
        if place.array is None:
            attributes += f'\n {tag}="{place.text}"'
        else:
            items = "".join(f"<rdf:li>{item.replace('&', '&amp;')}</rdf:li>" for item in place.items or ())
            elements += f"<{tag}><rdf:Bag>{items}</rdf:Bag></{tag}>"
    rdf = '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    path.write_text(f"{rdf}<rdf:Description{declared}{attributes}>{elements}</rdf:Description></rdf:RDF>")
