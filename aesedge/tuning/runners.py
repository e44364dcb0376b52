"""Open towers and language models with the settings that are compared, and time them step by step."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING

from aesedge.config.memory import estimate, limits_now
from aesedge.config.memory.dry_run import DryRun
from aesedge.engine.rating import label_tokens, rate
from aesedge.image import preprocess, read_image
from aesedge.llm import Context, LanguageModel
from aesedge.llm.context import Aborted
from aesedge.llm.prompt import prompt_template
from aesedge.llm.raw_timing import prefill_evenly, timed_ns
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.closing import Closing
from aesedge.system.machine import trim_heap
from aesedge.tuning.candidates import tower_of
from aesedge.tuning.comparison import NoTimeError, TimedStep, Workload
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.memory import MemoryEstimate
    from aesedge.config.plan import Plan, Settings
    from aesedge.engine.rating import LabelTokens
    from aesedge.engine.results import Rating
    from aesedge.tuning.comparison import Part, Rates

    Embeddings = Mapping[int, npt.NDArray[np.float32]]
    """Number of a photo to its image embeddings, float32 [n_image_tokens, n_embd]."""

_PREFIX, _PHOTO, _ANSWER = range(3)
"""Sequences: the text before the image, the photo that is worked on, and where an answer of several tokens goes on."""
_ROOM_FOR_TEXT = 64 + 16
"""Positions after a question: what is decoded, and answers of several tokens."""
_N_WARM = 2
_WORTH_ASKING_S = 5.0
"""Where a question takes longer, the text before the image tells how fast the machine is."""
_WEIGHTS = {"weights", "weights, repacked", "vocabulary and outputs"}
_CONTEXT = {"KV cache", "compute buffers"}


class TowerRunner:
    """A tower and the photos that it encodes, float32 [1, 3, size, size] each; fills in ``embeddings``. Close it."""

    def __init__(
        self,
        tower: VisionTower,
        pixels: Sequence[npt.NDArray[np.float32]],
        embeddings: dict[int, npt.NDArray[np.float32]],
    ) -> None:
        self._tower, self._pixels, self._embeddings, self._photo = tower, pixels, embeddings, 0
        self.close = tower.close

    def begin(self, photo: int) -> None:
        """Begin with a photo."""
        self._photo = photo

    def run(self, _step: TimedStep) -> float:
        """Encode the photo; return seconds."""
        started = time.perf_counter()
        embeddings = self._tower.encode(self._pixels[self._photo])
        seconds = time.perf_counter() - started
        self._embeddings[self._photo] = embeddings
        return seconds

    def score(self) -> float:
        """Raise an error: a tower answers no question."""
        raise NotImplementedError

    def abort(self) -> None:
        """Let it end; a tower does not take long."""

    def warm(self) -> None:
        """Encode a photo twice."""
        self.rates: Rates = {"vision": min(self.run(TimedStep("vision")) for _ in range(_N_WARM))}
        """Seconds for a unit of each phase."""


class LanguageRunner:
    """A KV cache, and the photos that are prefilled into it. Close it.

    Args:
        context: empty, with three sequences; it is closed with this.
        texts: tokens of the text before the image with BOS, of the rating question, and of any text.
        labels: the answers to the question.
        embeddings: the photos'.
        n_ubatch: embeddings in a batch.
    """

    def __init__(
        self,
        context: Context,
        texts: Sequence[Sequence[int]],
        labels: LabelTokens,
        embeddings: Embeddings,
        *,
        n_ubatch: int,
    ) -> None:
        self._context, self._labels, self._embeddings, self._n_ubatch = context, labels, embeddings, n_ubatch
        self._prefix, self._question, text = texts
        self._next = cycle(text)
        self._photo = self._n_rows = 0
        self.close = context.close

    def begin(self, photo: int) -> None:
        """Begin with a photo, behind the text before the image."""
        self._context.fork(_PREFIX, _PHOTO)
        self._photo, self._n_rows = photo, 0

    def run(self, step: TimedStep) -> float:
        """Prefill the photo's next rows, or decode behind them; return seconds."""
        if step.phase == "decode":
            return self._timed(lambda: self._decode(step.n))
        rows = self._embeddings[self._photo][self._n_rows : self._n_rows + step.n]
        self._n_rows += step.n
        return self._timed(lambda: prefill_evenly(self._context, _PHOTO, rows, self._n_ubatch))

    def score(self) -> float:
        """Ask the rating question about the rows so far; return the score, 0 to 10."""
        found: list[Rating] = []
        self._timed(lambda: found.append(self._ask()))
        return found[0].score

    def abort(self) -> None:
        """Stop what runs; it raises NoTimeError."""
        self._context.abort.set()

    def _ask(self) -> Rating:
        first = self._context.prefill_tokens(_PHOTO, self._question)
        after = {}
        for prefix in self._labels.prefixes:
            self._context.fork(_PHOTO, _ANSWER)
            after[prefix] = self._context.prefill_tokens(_ANSWER, prefix)
        self._context.truncate(_ANSWER, 0)
        return rate(self._labels, first, after)

    def _decode(self, n: int) -> None:
        for token in islice(self._next, n):
            self._context.append([(_PHOTO, [token])], [True])

    def warm(self) -> None:
        """Read the weights once, and prefill the text before the image.

        Raises:
            NoTimeError: time was over before it was done.
        """
        self._timed(lambda: self._decode(1))  # from the disk, if need be
        row_s = self._timed(lambda: self._context.prefill_tokens(_PREFIX, self._prefix)) / len(self._prefix)
        self.begin(0)
        if row_s * len(self._question) < _WORTH_ASKING_S:
            row_s = self._timed(self._ask) / len(self._question)
        token_s = min(self._timed(lambda: self._decode(1)) for _ in range(_N_WARM))
        self.rates: Rates = {"prefill": row_s, "decode": token_s}
        """Seconds for a unit of each phase."""

    def _timed(self, do: Callable[[], object]) -> float:
        try:
            return timed_ns(self._context.handle, do) / 1e9
        except Aborted:
            raise NoTimeError("no time left") from None


class Runners(Closing):
    """Opens what is compared, and closes what is no longer needed. Close it, or use it as a context manager.

    Args:
        bundle: what is tried.
        plan: how, but for the settings.
        memory: the user's budget, as :func:`aesedge.config.memory.parse_memory` reads it.
        seconds: when it stops what the language model does.

    Raises:
        AesedgeError: see :class:`aesedge.engine.model.Model`.
    """

    def __init__(self, bundle: Bundle, plan: Plan, memory: str | None, seconds: float) -> None:
        self._is_over = False
        self._bundle, self._plan = bundle, plan
        manifest = bundle.manifest
        self._pixels = [
            preprocess(read_image(path, size_hint=manifest.image.size), manifest.image) for path in SAMPLE_PHOTOS
        ]
        template = prompt_template(manifest.prompt.template)
        questions = (manifest.rating.question, manifest.prompt.critique)
        self._texts = [template.before_image, *map(template.after_image, questions)]
        with DryRun(bundle.path("llm", plan.gguf)) as header:
            n_prefix, n_question = 1 + header.n_tokens(self._texts[0]), header.n_tokens(self._texts[1])
        self.work = Workload(plan.n_image_tokens, n_question, len(self._pixels))
        self._n_ctx = n_prefix + plan.n_image_tokens + n_question + _ROOM_FOR_TEXT
        self._limits = limits_now(plan.device, memory)
        self._estimates: dict[tuple[Settings, int | None], MemoryEstimate] = {}
        self._models: dict[tuple[object, bool], LanguageModel] = {}
        self._open: dict[tuple[Part, Settings], TowerRunner | LanguageRunner] = {}
        self._embeddings: dict[tuple[str, str, int], dict[int, npt.NDArray[np.float32]]] = {}
        self.provider = ""
        """What runs the tower; known once one was open."""
        self._timer = threading.Timer(max(0.0, seconds), self._stop)
        self._timer.daemon = True
        self._timer.start()

    def _stop(self) -> None:
        self._is_over = True
        for runner in list(self._open.values()):
            runner.abort()

    def open(self, part: Part, wanted: Sequence[Settings]) -> list[TowerRunner | LanguageRunner]:
        """Open what is wanted, warm it, and close the rest.

        Raises:
            ModelLoadError, ProviderError: a runtime refuses these settings.
            NoTimeError: time was over before they were warm.
        """
        for key in [key for key in self._open if key not in {(part, s) for s in wanted}]:
            self._open.pop(key).close()
        for settings in wanted:
            if (part, settings) not in self._open:
                opened = self._tower(settings) if part == "vision" else self._language(settings, wanted)
                self._open[part, settings] = opened
                if self._is_over:
                    opened.abort()
                opened.warm()
        return [self._open[part, settings] for settings in wanted]

    def _tower(self, settings: Settings) -> TowerRunner:
        path = self._bundle.path("vision", settings.vision)
        tower = VisionTower(path, device=settings.vision_device, n_threads=settings.threads_vision)
        self.provider = tower.provider
        trim_heap()
        return TowerRunner(tower, self._pixels, self._embeddings.setdefault(tower_of(settings), {}))

    def _language(self, settings: Settings, wanted: Sequence[Settings]) -> LanguageRunner:
        """Open a context; weights that are not wanted are closed before others are loaded."""
        embeddings, rating, key = self.embeddings(settings), self._bundle.manifest.rating, _weights_of(settings)
        if key not in self._models:
            for idle in self._models.keys() - set(map(_weights_of, wanted)):
                self._models.pop(idle).close()
            layers = self.estimate(settings, self._n_ctx).gpu_layers
            path = self._bundle.path("llm", self._plan.gguf)
            self._models[key] = LanguageModel(path, gpu_layers=layers, repack=settings.repack)
        model = self._models[key]
        prefix, question, text = map(model.tokenize, self._texts)
        context = Context(
            model,
            n_ctx=self._n_ctx,
            n_seq_max=3,
            n_threads=settings.threads,
            n_threads_batch=settings.threads_batch,
            kv_type=settings.kv_type,
            flash_attention=settings.flash_attention,
            kernels=settings.kernels,
        )
        labels = label_tokens(rating.labels, rating.weights, model.tokenize)
        texts = [[model.bos, *prefix], question, text]
        return LanguageRunner(context, texts, labels, embeddings, n_ubatch=settings.n_ubatch)

    def embeddings(self, settings: Settings) -> Embeddings:
        """Return the image embeddings of every photo."""
        found = self._embeddings.setdefault(tower_of(settings), {})
        missing = [i for i in range(self.work.n_photos) if i not in found]
        if missing:
            opened = self._open.get(("vision", settings))
            tower = opened or self._tower(settings)
            for i in missing:
                tower.begin(i)
                tower.run(TimedStep("vision"))
            if opened is None:
                tower.close()
        return found

    def same_rows(self, one: Settings, other: Settings) -> bool:
        """Whether two towers' embeddings are equal to the last bit."""
        first, second = self.embeddings(one), self.embeddings(other)
        return all((first[i] == second[i]).all() for i in range(self.work.n_photos))

    def estimate(self, settings: Settings, ctx: int | None = None) -> MemoryEstimate:
        """Return what settings take, as users run them, or in a context of ``ctx`` positions."""
        if (settings, ctx) not in self._estimates:
            plan = replace(self._plan, **asdict(settings), ctx=ctx)
            self._estimates[settings, ctx] = estimate(self._bundle, plan, process_bytes=self._limits.process_bytes)
        return self._estimates[settings, ctx]

    def repacks(self, settings: Settings) -> bool:
        """Whether there is anything in the file that llama.cpp would repack."""
        return "weights, repacked" in self.estimate(replace(settings, repack=True), self._n_ctx).parts

    def has_room(self, settings: Settings) -> bool:
        """Whether settings fit memory as users run them."""
        return self._limits.fits(self.estimate(settings))

    def together(self, part: Part, base: Settings, variant: Settings) -> bool:
        """Whether both can be open at once: two caches, and two sets of weights where their layout differs."""
        if part == "vision":  # there is no KV cache, and there are no weights yet, or they are idle
            return self.has_room(base) and self.has_room(variant)
        one, other = (self.estimate(settings, self._n_ctx) for settings in (base, variant))
        twice = _CONTEXT if _weights_of(base) == _weights_of(variant) else _CONTEXT | _WEIGHTS
        in_ram, on_gpu = (
            sum(n for name, n in parts.items() if name in twice) for parts in (other.parts, other.gpu_parts)
        )
        fits = one.needed_bytes + in_ram <= self._limits.ram_bytes
        return fits and one.gpu_bytes + on_gpu <= self._limits.gpu_bytes

    def close(self) -> None:
        """Close everything. Closing twice does nothing."""
        self._timer.cancel()
        self._timer.join()
        while self._open:
            self._open.popitem()[1].close()
        while self._models:
            self._models.popitem()[1].close()
        trim_heap()


def _weights_of(settings: Settings) -> tuple[object, bool]:
    """Return the settings that decide how the weights lie in memory."""
    return settings.gpu_layers, settings.repack
