"""Benchmark libmtmd, llama.cpp's own image path, on the photos, prompt and weights of a loaded bundle.

The photos are new ones each time, and the same on both sides. Equal on both sides: the file of the language model, the
number of threads, and the KV cache's type as far as the bundle's is f16. What differs stands in a pair's description.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from aesedge.bench.rounds import Stopwatch
from aesedge.bench.timing import depth_of, one_by_one, random_tokens
from aesedge.errors import InferenceError, UsageError
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.scheduling.requests import DecodeTokens, Job, Reserve
from aesedge.system.closing import Closing

from .baseline_memory import configurations_that_fit, find_mmproj
from .baseline_runs import Pair, run_pairs
from .mtmd_process import MARKER, N_CTX, MtmdProcess, MtmdSettings, mtmd_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aesedge.bench.fixture import Fixture
    from aesedge.bench.result import Against
    from aesedge.bench.rounds import Sample
    from aesedge.bundle.bundle import Bundle
    from aesedge.engine.model import Model

_PHOTO, _DECODE, _VISION = "photo to score", "decode image", "vision"


class MtmdBaseline(Closing):
    """llama.cpp in processes of its own, and the steps that it does in turns with a model. Use it as a context manager.

    Args:
        fixture: an open bundle that keeps nothing on disk, with a photo in its KV cache.
        mmproj: the image encoder for llama.cpp; None looks beside the bundle's files.
        n_prompt: tokens of the ``pp`` test; None takes as many as an image has.
        n_gen: tokens of the ``tg`` test.
        n_depth: positions in the cache before them; None takes those up to an image's end, rounded up.

    Raises:
        UsageError: the bundle has no form for llama.cpp, or libmtmd is not installed.
        MemoryFitError: memory has no room for it beside the model; nothing was opened.
        InferenceError: libmtmd refuses a file.
    """

    def __init__(
        self,
        fixture: Fixture,
        *,
        mmproj: Path | None = None,
        n_prompt: int | None = None,
        n_gen: int = 16,
        n_depth: int | None = None,
    ) -> None:
        self._fixture = fixture
        model = fixture.model
        encoder = self.require(model.bundle, mmproj)
        self.reference = mtmd_version()
        """Who it is, with version."""
        self._model, self._plan = model, model.internals.plan
        manifest = model.manifest
        self._n_most = manifest.image_tokens.max
        self._n_prompt, self._n_gen = n_prompt or model.n_image_tokens, n_gen
        self._n_depth = n_depth or depth_of(fixture)
        self._text = (
            model.internals.template.before_image
            + MARKER
            + model.internals.template.after_image(manifest.rating.question)
        )
        ways, self.left_out = configurations_that_fit(model, encoder)
        """What was not opened, and why."""
        with ExitStack() as stack:
            peers = [stack.enter_context(self._open(encoder, way.settings)) for way in ways]
            self.pairs = [self._photo_pair(peers[0])]
            """What both sides do."""
            for peer, way in reversed(list(zip(peers, ways, strict=True))):
                self.pairs += self._token_pairs(peer, way.settings)
            self._resources = stack.pop_all()

    @staticmethod
    def require(bundle: Bundle, mmproj: Path | None = None) -> Path:
        """Return the image encoder for llama.cpp, before anything is opened.

        Raises:
            UsageError: the bundle has none, or libmtmd is not installed.
        """
        if not mtmd_version():
            raise UsageError("--against mtmd: the installed llama-cpp-python brings no libmtmd; install it again")
        return find_mmproj(bundle, mmproj)

    def _open(self, encoder: Path, settings: MtmdSettings) -> MtmdProcess:
        plan, is_default = self._plan, settings.repack is None
        peer = MtmdProcess(
            encoder if is_default else None,
            self._model.bundle.path("llm", plan.gguf),
            n_threads=plan.threads,
            n_threads_batch=plan.threads_batch,
            n_ctx=max(N_CTX, self._n_depth + self._n_gen, self._n_prompt),
            gpu=settings.gpu_layers != 0 and bool(gpu_devices()),
            settings=settings,
        )
        try:  # the first time wakes everything
            peer.llama_bench(16, 1)
            if is_default:
                size = self._model.manifest.image.size
                peer.encode(np.zeros((1, size, size, 3), np.uint8), self._model.manifest.n_embd)
        except BaseException:
            peer.close()
            raise
        return peer

    def _photo_pair(self, peer: MtmdProcess) -> Pair:
        """Return the way of a new photo from its file to the logits after the score question."""
        model, n_most, n = self._model, self._n_most, self._model.n_image_tokens
        photo = self._fixture.new_photos.write()
        how = (
            f"a new photo; vision {model.vision} on our side; llama.cpp at its own defaults (weights repacked, flash "
            f"attention where it can); threads: {self._plan.threads_batch}; KV {self._plan.kv_type} and f16"
        )
        prefix = "the text before the image is prefilled at loading by us, with every photo by libmtmd"
        few = f"{_PHOTO}, {n} image tokens"
        what = {
            _PHOTO: f"file to the logits after the score question, {n_most} image tokens on both sides; {prefix}; {how}"
        }
        if n < n_most:
            what[few] = f"the same, {n} image tokens on our side, {n_most} on theirs, which cannot do with fewer"
        what |= {
            _DECODE: "the photo's file to the tower's pixels: decoded, made square, resized, normalised",
            _VISION: f"pixels to image embeddings; {model.vision} on our side; libmtmd's in f16",
        }

        def prepare() -> None:
            nonlocal photo
            photo.unlink(missing_ok=True)
            photo = self._fixture.new_photos.write()
            self._fixture.leave()

        def ours() -> dict[str, int]:
            if n == n_most:
                return _our_way(model, photo, n)
            # Another name of the same pixels would be known; the tower is asked anew with other numbers of tokens.
            return {few: _our_way(model, photo, n)[_PHOTO]} | _our_way(model, photo, n_most)

        def theirs() -> dict[str, int]:
            found = peer.prompt(photo, self._text)
            whole = _ns(found.total_s)
            return {_PHOTO: whole, few: whole, _DECODE: _ns(found.decode_image_s), _VISION: _ns(found.vision_s)}

        return Pair(what, ours, theirs, prepare)

    def _token_pairs(self, peer: MtmdProcess, settings: MtmdSettings) -> list[Pair]:
        """Return prefill and decode, by the calls of llama-bench on their side, behind a photo on ours."""
        fixture, n, n_gen, depth = self._fixture, self._n_prompt, self._n_gen, self._n_depth
        on = "repacked" if self._plan.repack else "not repacked"
        flash = "flash attention" if self._plan.flash_attention else "no flash attention"
        ours = f"ours: weights {on}, {flash}, n_ubatch {self._plan.n_ubatch}"
        theirs = "llama-bench's calls at the same settings"
        mark = ""
        if settings.repack is None:
            theirs, mark = "llama-bench's calls at llama.cpp's own defaults", ", their defaults"
        threads = f"threads: {self._plan.threads_batch}"
        pp, tg = f"pp{n}{mark}", f"tg{n_gen} @ d{depth}{mark}"
        what_pp = f"{n} random tokens into an empty sequence; {theirs}; {ours}; {threads}"
        what_tg = f"{n_gen} random tokens one by one behind {depth}; {theirs}; {ours}; threads: {self._plan.threads}"
        return [
            Pair(
                {pp: what_pp},
                lambda: {pp: fixture.timed(_prefill(fixture, n)).ns},
                lambda: {pp: _ns(peer.llama_bench(n, 0).prompt_s)},
            ),
            Pair(
                {tg: what_tg},
                lambda: {tg: fixture.timed(_decode_behind(fixture, depth, n_gen)).ns},
                lambda: {tg: _ns(peer.llama_bench(0, n_gen, depth).generate_s)},
            ),
        ]

    def run(
        self, *, seconds: float, repetitions: int, progress: Callable[[float], None], rows: dict[str, Against]
    ) -> list[Against]:
        """Take turns with the model, see :func:`run_pairs`."""
        return run_pairs(self.pairs, seconds=seconds, repetitions=repetitions, progress=progress, rows=rows)

    def close(self) -> None:
        """End the other processes. Closing twice does nothing."""
        self._resources.close()


def _our_way(model: Model, photo: Path, n_image_tokens: int) -> dict[str, int]:
    started = time.perf_counter_ns()
    with model.look(photo, image_tokens=n_image_tokens) as seen:
        seen.score()
        took = time.perf_counter_ns() - started
        if seen.cache_state != "cold":
            raise InferenceError(f"{photo}: this photo was known already, so its time says nothing")
        return {_PHOTO: took, _DECODE: _ns(seen.timings.decode_image_s), _VISION: _ns(seen.timings.vision_s)}


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _prefill(fixture: Fixture, n: int) -> Job[Sample]:
    """Prefill random tokens into an empty sequence, by the engine."""
    tokens = random_tokens(fixture, n)
    (seq_id,) = yield Reserve(1, n)
    try:
        watch = Stopwatch()
        yield DecodeTokens([(seq_id, tokens)])
        fixture.finish()
        return watch.sample()
    finally:
        fixture.model.internals.sequences.release([seq_id])


def _decode_behind(fixture: Fixture, depth: int, n: int) -> Job[Sample]:
    """Decode random tokens one by one, by the engine, behind the image, filled up to the depth untimed."""
    sequences, image = fixture.model.internals.sequences, fixture.photo.internals.image
    n_fill = depth - fixture.n_resident
    seq_ids, _ = yield from sequences.acquire(image, n_forks=1, n_cells=n_fill + n)
    try:
        with sequences.pinned(image):
            if n_fill:
                yield DecodeTokens([(seq_ids[0], random_tokens(fixture, n_fill))])
            fixture.finish()
            watch = Stopwatch()
            yield from one_by_one(fixture, seq_ids, n)
            return watch.sample()
    finally:
        sequences.release(seq_ids)
