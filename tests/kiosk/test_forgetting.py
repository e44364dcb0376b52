"""A kiosk's server after an answer: nothing of the photo is kept, and its memory goes back to the system."""

from __future__ import annotations

import gc
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from kiosk_page import kiosk_server
from serving import jpeg

from aesedge.engine.completion import Completion
from aesedge.engine.photo import Photo
from aesedge.scheduling.task import Task
from aesedge.serve.question import Question
from aesedge.system.machine import process_bytes, trim_heap
from aesedge.vision.encoder import EncodedImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving import Running

N_PHOTOS = 3
MOST_LEFT = 1_000_000
SETTLED_S = 1.0
"""The server forgets a photo after the end of its answer."""


@pytest.fixture(scope="module")
def kiosk() -> Iterator[Running]:
    with kiosk_server() as running:
        yield running


def take(kiosk: Running, data: bytes) -> None:
    answer = kiosk.ask("POST", "/kiosk/photo", data, content_type="image/jpeg")
    assert b"event: done" in answer.body


def n_left() -> int:
    """Return how many objects there are that stand for a photo or what was asked about it."""
    wanted = (Question, EncodedImage, Photo, Completion, Task)
    # Not isinstance, which asks every object for its class: some of torch's answer with a warning.
    return sum(issubclass(type(one), wanted) for one in gc.get_objects())


def test_nothing_of_a_photo_waits_for_the_garbage_collector(kiosk: Running) -> None:
    """Python looks for cycles among what is old once a quarter of it is new: a photo stayed for hundreds of others."""
    take(kiosk, jpeg(0))
    gc.collect()
    before = n_left()
    gc.disable()
    try:
        for seed in range(N_PHOTOS):
            take(kiosk, jpeg(seed))
        latest = time.monotonic() + 5
        while n_left() > before:  # the event loop still lets go of the last one
            assert time.monotonic() < latest, n_left() - before
            time.sleep(0.1)
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told to give memory back")
def test_memory_of_a_photo_goes_back_to_the_system(kiosk: Running) -> None:
    """Gaps between what lives on grow for thousands of photos: 2.5 KB a photo, seen in a run of 1,028."""
    photos = [jpeg(seed, (1280, 960), quality=92) for seed in range(N_PHOTOS)]
    trim_heap()
    for photo in photos:
        take(kiosk, photo)
    time.sleep(SETTLED_S)
    before = process_bytes()
    trim_heap()
    assert before - process_bytes() < MOST_LEFT


def test_photo_of_a_guest_who_left_while_the_tower_ran_is_not_kept(
    kiosk: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that encodes it ends after everything was forgotten."""
    session = kiosk.session
    gone = threading.Event()
    encode = session.internals.encoder.encode_prepared

    def encode_and_leave(*given: object) -> object:
        encoded = encode(*given)
        gone.set()
        session.photos.take_unused()
        return encoded

    monkeypatch.setattr(session.internals.encoder, "encode_prepared", encode_and_leave)
    session.photos.encode(jpeg(1), "", gone)
    assert not session.photos._encoded
