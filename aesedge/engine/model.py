"""A loaded bundle: vision tower and language model side by side, and how a photo gets from a file to both.

What is then asked of a photo is ``photo``'s business.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, TypeVar

from aesedge.bundle.bundle import POCKET, Bundle, open_bundle
from aesedge.bundle.manifest import MANIFEST_NAME
from aesedge.cache import EmbeddingCache, open_store
from aesedge.config.memory import check_fit
from aesedge.config.options import Options
from aesedge.config.plan import MOST_PHOTOS, ROOM_FOR_ONE_ANSWER, Plan
from aesedge.config.planning import check_image_tokens, make_plan
from aesedge.engine.batch import score_many
from aesedge.engine.photo import Photo
from aesedge.engine.rating import label_tokens
from aesedge.errors import AesedgeError, BundleFormatError, ContextFullError, UsageError
from aesedge.image import name_of
from aesedge.llm import Context, LanguageModel
from aesedge.llm.limits import N_SEQ_MAX
from aesedge.llm.prompt import prompt_template
from aesedge.scheduling.kv_store import KVStateStore
from aesedge.scheduling.requests import Priority
from aesedge.scheduling.scheduler import Scheduler
from aesedge.scheduling.sequences import SequenceCache
from aesedge.system.closing import Closing
from aesedge.system.fair_lock import FairLock
from aesedge.system.machine import n_cores, trim_heap
from aesedge.system.ordered_map import batched, map_ordered
from aesedge.vision.encoder import ImageEncoder
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from aesedge.bundle.manifest import Role
    from aesedge.cache.disk_store import DiskStore, Kind
    from aesedge.engine.results import PhotoResult
    from aesedge.image import ImageSource
    from aesedge.vision.encoder import EncodedImage

KV_BUDGET = "1GB"
"""For the text before images; pinned photos count, and are never evicted."""
RAM_BYTES = 32_000_000
"""For image embeddings in memory, where so much is left: 6 photos at 7B, 250 of pocket. On disk is room for more, and
8 ms away."""
S = TypeVar("S", bound="ImageSource")
T = TypeVar("T")


class Model(Closing):
    """A bundle in memory, ready to look at photos. Use it as a context manager, or close it.

    Safe for several threads: what they ask is worked on side by side.

    Args:
        bundle: what to load.
        options: how.
        progress: called with the fraction of the language model that is loaded, 0..1.

    Raises:
        BundleError: a file is missing, altered, or not what the manifest says.
        ContextFullError: ``options.ctx`` is too small for the image and the shortest question.
        MemoryFitError: it would not fit the memory; nothing was loaded.
        ModelLoadError, ProviderError: see :class:`VisionTower`, :class:`LanguageModel`.
    """

    def __init__(
        self, bundle: Bundle, options: Options | None = None, progress: Callable[[float], None] | None = None
    ) -> None:
        options = options or Options()
        self.bundle = bundle
        manifest = self.manifest = bundle.manifest
        plan = make_plan(options, bundle)
        self.gguf, self.vision, self.n_image_tokens = plan.gguf, plan.vision, plan.n_image_tokens
        self.template = prompt_template(manifest.prompt.template)
        files: list[tuple[Role, str]] = [("vision", self.vision), ("llm", self.gguf)]
        tower_path, llm_path = bundle.hashed_paths(*files)
        fit = check_fit(bundle, plan, options.memory)
        bundle.check_loads(*files)
        plan = self.plan = fit.estimate.plan
        n_gpu_layers = self.n_gpu_layers = fit.estimate.gpu_layers
        turns = FairLock()
        with ExitStack() as stack:
            with ThreadPoolExecutor(1) as pool:  # tower and language model load at the same time
                tower = pool.submit(VisionTower, tower_path, device=plan.vision_device, n_threads=plan.threads_vision)
                self.llm = stack.enter_context(
                    LanguageModel(llm_path, gpu_layers=n_gpu_layers, progress=progress, repack=plan.repack)
                )
                self.tower = stack.enter_context(tower.result())
            trim_heap()
            # With a GPU for either, or on cores that are left over, they run side by side; else they take turns.
            shares_cores = not n_gpu_layers and self.tower.is_on_cpu
            self._takes_turns = shares_cores and plan.threads_batch >= n_cores()
            self._check_parts_belong_together()
            self.labels = label_tokens(
                manifest.rating.labels, manifest.rating.weights, self.llm.tokenize, bundle.folder / MANIFEST_NAME
            )
            ram_bytes = min(RAM_BYTES, fit.spare_bytes)
            self.encoder = ImageEncoder(
                self.tower,
                manifest.image,
                tower_sha256=self._sha256("vision", self.vision),
                cache=EmbeddingCache(ram_bytes=ram_bytes, disk=_store("embeddings", options.cache, options)),
                turns=turns if self._takes_turns else None,
                worth_keeping_s=options.worth_keeping_s,
            )
            self._open_context(stack, options, plan, n_gpu_layers, turns)
            # Everything stands: close() undoes it, the last opened first, as llama.cpp requires.
            self._resources = stack.pop_all()

    def _sha256(self, role: Role, type_: str) -> str:
        """Return a file's hash as the manifest has it; ``Bundle.path`` has compared it with the file."""
        file = self.manifest.file(role, type_)
        return file.sha256 if file else ""

    def _check_parts_belong_together(self) -> None:
        """See that the parts of the bundle belong together, before llama.cpp reads past the end of a row."""
        m, tower, llm = self.manifest, self.tower, self.llm
        if not tower.n_embd == llm.n_embd == m.n_embd:
            raise BundleFormatError(
                f"{tower.path}: the projector's rows are {tower.n_embd} wide, the language model's {llm.n_embd}, "
                f"the manifest says {m.n_embd}; export or install the bundle again"
            )
        if (tower.image_size, tower.n_image_tokens) != (m.image.size, m.image_tokens.max):
            raise BundleFormatError(
                f"{tower.path}: {tower.image_size} pixels and {tower.n_image_tokens} image tokens, the manifest says "
                f"{m.image.size} and {m.image_tokens.max}; export or install the bundle again"
            )

    def _open_context(self, stack: ExitStack, options: Options, plan: Plan, n_gpu_layers: int, turns: FairLock) -> None:
        prefix = [self.llm.bos, *self.llm.tokenize(self.template.before_image)]
        m = self.manifest
        questions = [m.rating.question, m.prompt.critique, *m.rating.attributes.values()]
        longest = max(len(self.question_tokens(q)) for q in questions)
        needed = len(prefix) + self.n_image_tokens + longest + 1
        if options.ctx is not None and options.ctx < needed:
            raise ContextFullError(
                f"--ctx {options.ctx} is too small: the text before the image takes {len(prefix)} positions, the "
                f"image {self.n_image_tokens}, the longest question {longest}; at least --ctx {needed} is needed"
            )
        n_ctx = plan.n_ctx(len(prefix))
        context = stack.enter_context(
            Context(
                self.llm,
                n_ctx=n_ctx,
                n_seq_max=N_SEQ_MAX,
                n_threads=plan.threads,
                n_threads_batch=plan.threads_batch,
                kv_type=plan.kv_type,
                flash_attention=plan.flash_attention,
            )
        )
        self.sequences = SequenceCache(context, len(prefix))
        self.scheduler = Scheduler(context, self.sequences, turns, n_ubatch=plan.n_ubatch)
        stack.callback(self.scheduler.close)
        self.kv_store = KVStateStore(
            _store("kv", KV_BUDGET, options),
            context,
            gguf_sha256=self._sha256("llm", self.gguf),
            prefix=prefix,
            template=m.prompt.template,
            settings={
                "n_batch": context.n_batch,
                "n_ubatch": plan.n_ubatch,
                "threads": plan.threads_batch,
                "repack": plan.repack,
                "flash_attention": plan.flash_attention,
                "device": plan.device,
                "gpu_layers": n_gpu_layers,
            },
        )
        self._bring_prefix(prefix, options.worth_keeping_s)

    def _bring_prefix(self, prefix: list[int], worth_keeping_s: float) -> None:
        """Put the text before every image into the cache, from disk where it was kept."""
        key, context = self.kv_store.key(None), self.sequences.context
        seq_id = self.sequences.prefix_seq_id
        if self.scheduler.call(lambda: self.kv_store.restore(key, seq_id, len(prefix))).wait():
            return
        started = time.perf_counter()
        self.scheduler.submit(self.sequences.prefill_prefix(prefix)).wait()
        if time.perf_counter() - started >= worth_keeping_s:
            state = self.scheduler.call(lambda: context.save(seq_id)).wait()
            self.kv_store.put(key, state, len(prefix), pinned=False)

    def look(
        self,
        source: ImageSource,
        *,
        name: str | None = None,
        image_tokens: int | Literal["auto"] | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Photo:
        """Look at a photo: decode it, run the vision tower once, prefill the image once.

        Args:
            source: a path, the bytes of an image file, an open binary file, or a Pillow image.
            name: what to call it in results and messages.
            image_tokens: positions that it takes, None for what the model was opened with.
            priority: who goes first, when several photos are worked on.

        Raises:
            ImageError: it cannot be read.
            UsageError: the bundle cannot make so many image tokens of it.
        """
        started = time.perf_counter()
        n_image_tokens = (
            self.n_image_tokens if image_tokens is None else check_image_tokens(self.manifest, image_tokens)
        )
        encoded = self.encoder.encode(source, n_image_tokens, name=name)
        photo = Photo(self, name or name_of(source) or "image", encoded, started, priority)
        photo.prefill()
        return photo

    @property
    def photos_at_once(self) -> int:
        """How many photos are worth working on side by side: as many as find room with their answers, 4 at most."""
        n_each = self.n_image_tokens + ROOM_FOR_ONE_ANSWER
        return max(1, min(MOST_PHOTOS, self.sequences.n_cells // n_each))

    def each(
        self, sources: Iterable[S], work: Callable[[Photo], T], *, at_once: int | None = None
    ) -> Iterator[tuple[S, T | AesedgeError]]:
        """Look at photos and do something with each; in order, and in bounded memory.

        The tower looks at the next photos while the language model works, where both have cores or a GPU of their own.
        Whoever asks by other ways meanwhile goes first.

        Args:
            sources: see :meth:`look`.
            work: called with every photo, on threads of this method if several are worked on; the photo is closed
                afterwards.
            at_once: how many. The texts of several are written together, which is faster and leaves the last bits of
                llama.cpp's sums open. None takes :attr:`photos_at_once`.

        Yields:
            Each source with what ``work`` returned, or with the error of this photo.
        """

        def work_on(seen: tuple[S, EncodedImage | AesedgeError]) -> T:
            with self.open_photo(*seen) as photo:
                photo.prefill()
                return work(photo)

        at_once = at_once or self.photos_at_once
        for (source, _), outcome in map_ordered(self.encode_many(sources, at_once), work_on, at_once=at_once):
            yield source, outcome

    def score_many(
        self, sources: Iterable[S], *, attributes: bool = True
    ) -> Iterator[tuple[S, PhotoResult | AesedgeError]]:
        """Score photos; no text is written. In order, and in bounded memory.

        With few image tokens several photos share batches, as many as fit one: the same photos in the same order have
        the same scores, and another order changes the last digits.

        Args:
            sources: see :meth:`look`.
            attributes: whether to score the attributes too.

        Yields:
            Each source with what came of it, or with the error of this photo.
        """
        return score_many(self, sources, attributes=attributes)

    def encode_many(self, sources: Iterable[S], at_once: int) -> Iterator[tuple[S, EncodedImage | AesedgeError]]:
        """Look at photos, ahead of the language model where the tower takes nobody's cores."""
        n = self.n_image_tokens
        if at_once > 1 and self.tower.gains_by_batches:
            ahead = 1 if self._takes_turns else 2
            groups = map_ordered(
                batched(sources, at_once), lambda group: self.encoder.encode_many(group, n), at_once=ahead
            )
            for group, seen in groups:
                yield from zip(group, [seen] * len(group) if isinstance(seen, AesedgeError) else seen, strict=True)
        else:
            ahead = 1 if self._takes_turns else at_once + 1
            yield from map_ordered(sources, lambda source: self.encoder.encode(source, n), at_once=ahead)

    def open_photo(self, source: ImageSource, encoded: EncodedImage | AesedgeError) -> Photo:
        """Return what can be asked, of a photo of many that was looked at; raises its error."""
        if isinstance(encoded, AesedgeError):
            raise encoded
        started = time.perf_counter() - encoded.decode_image_s - encoded.vision_s  # waiting for others is not its time
        return Photo(self, name_of(source) or "image", encoded, started, Priority.BATCH)

    def question_tokens(self, question: str) -> list[int]:
        """Return what follows the image when a question is asked about it."""
        return self.llm.tokenize(self.template.after_image(question))

    def close(self) -> None:
        """Free everything. Photos of this model cannot be asked any more. Closing twice does nothing."""
        self._resources.close()


def open_model(
    bundle: str | os.PathLike[str] = POCKET,
    *,
    progress: Callable[[float], None] | None = None,
    **options: object,
) -> Model:
    """Load a bundle by name or folder; the keywords are the fields of :class:`Options`.

    >>> with open_model("pocket") as model, model.look("a.jpg") as photo:  # doctest: +SKIP
    ...     print(photo.score().score)
    """
    try:
        chosen = Options(**options)  # type: ignore[arg-type]
    except TypeError as error:
        raise UsageError(f"unknown option: {error}") from None
    return Model(open_bundle(bundle), chosen, progress)


def _store(kind: Kind, budget: str, options: Options) -> DiskStore | None:
    """Open what is kept on disk; with ``--cache-size 0`` it is left alone, and nothing is read from it."""
    if options.cache.strip() == "0":
        return None
    return open_store(kind, budget, options.cache_folder)
