"""Photos that clients have sent and may ask about again, with their ratings and conversations.

Clients send the whole conversation, photo included, with every turn. Here it is found again: the photo by its pixels,
the turns by their text, so that only new words are computed.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from aesedge.cache import EmbeddingCache
from aesedge.engine.conversation import Conversation
from aesedge.engine.photo import Photo
from aesedge.image.format import find_decoder
from aesedge.scheduling.kv_cache import CachedImage
from aesedge.scheduling.requests import Priority
from aesedge.serve.api_error import ApiError
from aesedge.serve.image_data import image_bytes
from aesedge.serve.settings import MOST_BODY, MOST_PIXELS
from aesedge.vision.encoder import prepare_photo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aesedge.engine.model import Model
    from aesedge.engine.results import CacheState, Rating
    from aesedge.vision.encoder import EncodedImage

    Ratings = tuple[Rating, dict[str, Rating]]

_MOST_PHOTOS = 16
_MOST_CONVERSATIONS = 4  # of one photo, that nobody is having at the moment
_NAME = "the photo"
Turns = tuple[tuple[str, str], ...]


class KnownPhoto:
    """One photo, or none: conversations without a picture continue from an image of no positions.

    Args:
        model: which sees it.
        photo: it, if it is one.
    """

    def __init__(self, model: Model, photo: Photo | None) -> None:
        self._model = model
        self.photo = photo
        n_embd = model.manifest.n_embd
        self.image = photo.internals.image if photo else CachedImage(lambda: np.zeros((0, n_embd), np.float32), 0)
        self.ratings: Ratings | None = None
        self.n_users = 0
        self._idle: list[tuple[Turns, Conversation]] = []

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep it for the block."""
        self.n_users += 1
        try:
            yield
        finally:
            self.n_users -= 1

    def take_conversation(self, turns: Turns) -> Conversation:
        """Return a conversation at these turns: one that is remembered, or a new one.

        One that went on since is not cut back: what is computed anew in one batch, and what is computed token by token,
        differ in their last bits, and the same request would not always have the same answer.
        """
        found = next((idle for idle in self._idle if turns and idle[0] == turns), None)
        if found is not None:
            self._idle.remove(found)
        conversation = found[1] if found else Conversation(self._model.internals, self.image)
        conversation.restart(turns)
        return conversation

    def give_back(self, conversation: Conversation, turns: Turns) -> Conversation | None:
        """Remember a conversation; returns one that is to be closed for it."""
        self._idle.append((turns, conversation))
        return self._idle.pop(0)[1] if len(self._idle) > _MOST_CONVERSATIONS else None

    def leave_kv_cache(self) -> None:
        """Leave the KV cache between two batches, without waiting for it; what is asked next brings it back."""
        conversations = [conversation for _, conversation in self._idle]
        if not self.image.is_resident() and not any(one.is_resident() for one in conversations):
            return
        sequences = self._model.internals.sequences

        def leave() -> None:
            for one in conversations:
                one.leave_kv_cache()
            if not self.image.n_users:
                sequences.evict(self.image)

        self._model.internals.scheduler.call(leave)

    def close(self) -> None:
        """Leave the KV cache, and forget all conversations."""
        for _, conversation in self._idle:
            conversation.close()
        self._idle.clear()
        if self.photo is not None:
            self.photo.close()


class KnownPhotos:
    """The photos of one model, the latest ones.

    Args:
        model: which sees them.
        private: whether what one owner sent is never found again by another.
    """

    def __init__(self, model: Model, *, private: bool) -> None:
        self._model = model
        self._private = private
        self._lock = threading.Lock()
        self._encoded: OrderedDict[tuple[str, bytes], EncodedImage] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], KnownPhoto] = OrderedDict()
        self._texts: dict[str, KnownPhoto] = {}
        self._keeps_one = model.manifest.has_small_llm(model.internals.plan.gguf)
        """Whether photos that nobody asks about leave the KV cache when another one is asked about: attention goes over
        all of its cells for every token, which takes small models longer than bringing a photo back."""
        if private:  # whether a photo was here before could be told by the time that it takes
            model.internals.encoder.cache = EmbeddingCache(ram_bytes=0)

    def without_photo(self, owner: str) -> KnownPhoto:
        """Return what conversations without a photo hold on to."""
        return self._texts.setdefault(self._scope(owner), KnownPhoto(self._model, None))

    def encode(self, sent: bytes | str, owner: str, gone: threading.Event) -> tuple[EncodedImage, float, bool]:
        """Decode a photo and run the vision tower, unless the same file was here lately. Runs on any thread.

        Args:
            sent: the file's bytes, or their base64.
            owner: who sent it.
            gone: whether nobody waits for it any more.

        Returns:
            The embeddings, how long decoding took in seconds, and whether the embeddings were known.

        Raises:
            AesedgeError, ApiError: it cannot be read, or is of a kind that is not read here.
        """
        started = time.perf_counter()
        data = image_bytes(sent)
        key = self._scope(owner), hashlib.sha256(data).digest()
        with self._lock:
            encoded = self._encoded.get(key)
            if encoded is not None:
                self._encoded.move_to_end(key)
        if encoded is not None:
            return encoded, time.perf_counter() - started, True
        if find_decoder(io.BytesIO(data), _NAME) == "raw":
            raise ApiError(415, "raw files of cameras are not read here; send a JPEG", code="image_format")
        spec = self._model.manifest.image
        prepared = prepare_photo(data, spec, name=_NAME, max_bytes=MOST_BODY, max_pixels=MOST_PIXELS)
        decode_s = time.perf_counter() - started
        if gone.is_set():
            raise ApiError(499, "the client is gone", code="gone")
        (encoded,) = self._model.internals.encoder.encode_prepared([prepared], self._model.n_image_tokens)
        with self._lock:
            if not gone.is_set():  # after take_unused nobody would forget it
                self._encoded[key] = encoded
            if len(self._encoded) > _MOST_PHOTOS:
                self._encoded.popitem(last=False)
        return encoded, decode_s, encoded.cached

    def known(self, encoded: EncodedImage, owner: str) -> tuple[KnownPhoto, list[KnownPhoto]]:
        """Return what is known of a photo, and others that are to be closed for it."""
        key = self._scope(owner), encoded.key
        found = self._known.get(key)
        if found is None:
            photo = Photo(
                self._model.internals, _NAME, encoded, time.perf_counter(), Priority.INTERACTIVE, prefill=False
            )
            found = self._known[key] = KnownPhoto(self._model, photo)
        self._known.move_to_end(key)
        if self._keeps_one:
            for other in self._known.values():
                if other is not found and not other.n_users:
                    other.leave_kv_cache()
        idle = [key for key, photo in self._known.items() if not photo.n_users and photo is not found]
        n_over = max(0, len(self._known) - _MOST_PHOTOS)
        return found, [self._known.pop(key) for key in idle[:n_over]]

    def take_unused(self) -> list[KnownPhoto]:
        """Forget the photos that nobody uses; returns them to be closed."""
        with self._lock:
            self._encoded.clear()
        unused = [key for key, known in self._known.items() if not known.n_users]
        return [self._known.pop(key) for key in unused]

    def _scope(self, owner: str) -> str:
        return owner if self._private else ""


def cache_state(known: KnownPhoto, *, encoded_before: bool) -> CacheState:
    """Return what was known of a photo when it was asked about."""
    if known.image.is_resident():
        return "kv"
    return "embeddings" if encoded_before else "cold"
