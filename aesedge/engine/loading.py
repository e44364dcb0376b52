"""Load a bundle: vision tower, language model, KV cache, and their caches on disk."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from aesedge.bundle.manifest import MANIFEST_NAME
from aesedge.cache import EmbeddingCache, open_store
from aesedge.cache.embeddings import RAM_BYTES
from aesedge.config.memory import check_fit
from aesedge.config.planning import make_plan
from aesedge.engine.internals import Internals
from aesedge.engine.rating import label_tokens
from aesedge.errors import BundleFormatError, ContextFullError
from aesedge.llm import Context, LanguageModel
from aesedge.llm.accelerator import kernels_in_use
from aesedge.llm.limits import N_SEQ_MAX
from aesedge.llm.prompt import prompt_template
from aesedge.scheduling.kv_cache import SequenceCache
from aesedge.scheduling.kv_states_on_disk import KVStateStore
from aesedge.scheduling.scheduler import Scheduler
from aesedge.system.fair_lock import FairLock
from aesedge.system.machine import n_cores, trim_heap
from aesedge.vision.encoder import ImageEncoder
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import Role
    from aesedge.cache.disk_store import DiskStore, Kind
    from aesedge.config.options import Options

KV_BUDGET = "1GB"
"""For the text before images; pinned photos count, and are never evicted."""


def load(
    bundle: Bundle, options: Options, progress: Callable[[float], None] | None = None
) -> tuple[Internals, ExitStack]:
    """Load a bundle; see :class:`aesedge.engine.model.Model` for arguments and errors.

    Returns:
        Its parts, and the stack that closes them.
    """
    return _Loader(bundle, options).load(progress)


class _Loader:
    def __init__(self, bundle: Bundle, options: Options) -> None:
        self._bundle, self._options, self._manifest = bundle, options, bundle.manifest
        wished = make_plan(options, bundle)
        files: list[tuple[Role, str]] = [("vision", wished.vision), ("llm", wished.gguf)]
        self._tower_path, self._llm_path = bundle.hashed_paths(*files)
        fit = check_fit(bundle, wished, options.memory)
        bundle.check_loads(*files)
        self._plan, self._n_gpu_layers = fit.estimate.plan, fit.estimate.gpu_layers
        self._ram_bytes = min(RAM_BYTES, fit.spare_bytes)
        self._template = prompt_template(self._manifest.prompt.template)

    def load(self, progress: Callable[[float], None] | None) -> tuple[Internals, ExitStack]:
        plan, rating, lock = self._plan, self._manifest.rating, FairLock()
        with ExitStack() as stack:
            tower, llm = self._load_weights(stack, progress)
            # On a GPU for either, or with cores to spare, they run side by side; on shared cores one after the other.
            shares_cores = not self._n_gpu_layers and tower.is_on_cpu and plan.threads_batch >= n_cores()
            labels = label_tokens(rating.labels, rating.weights, llm.tokenize, self._bundle.folder / MANIFEST_NAME)
            prefix = [llm.bos, *llm.tokenize(self._template.before_image)]
            encoder = self._encoder(tower, lock if shares_cores else None)
            context = stack.enter_context(self._open_context(llm, len(prefix)))
            sequences = SequenceCache(context, len(prefix))
            scheduler = Scheduler(context, sequences, lock, n_ubatch=plan.n_ubatch)
            stack.callback(scheduler.close)
            internals = Internals(
                bundle=self._bundle,
                plan=plan,
                n_gpu_layers=self._n_gpu_layers,
                llm=llm,
                tower=tower,
                encoder=encoder,
                tower_shares_cores=shares_cores,
                template=self._template,
                labels=labels,
                sequences=sequences,
                scheduler=scheduler,
                kv_store=self._kv_store(context, prefix),
            )
            _load_prefix(internals, prefix, self._options.worth_keeping_s)
            # Complete: the stack closes it, the last opened first, as llama.cpp requires.
            return internals, stack.pop_all()

    def _load_weights(
        self, stack: ExitStack, progress: Callable[[float], None] | None
    ) -> tuple[VisionTower, LanguageModel]:
        """Load tower and language model at the same time, and check that they belong together."""
        plan, m = self._plan, self._manifest
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(
                VisionTower, self._tower_path, device=plan.vision_device, n_threads=plan.threads_vision
            )
            llm = stack.enter_context(
                LanguageModel(self._llm_path, gpu_layers=self._n_gpu_layers, progress=progress, repack=plan.repack)
            )
            tower = stack.enter_context(future.result())
        trim_heap()
        if not tower.n_embd == llm.n_embd == m.n_embd:  # llama.cpp would read past the end of a row
            raise BundleFormatError(
                f"{tower.path}: the projector's rows are {tower.n_embd} wide, the language model's {llm.n_embd}, "
                f"the manifest says {m.n_embd}; export or install the bundle again"
            )
        if (tower.image_size, tower.n_image_tokens) != (m.image.size, m.image_tokens.max):
            raise BundleFormatError(
                f"{tower.path}: {tower.image_size} pixels and {tower.n_image_tokens} image tokens, the manifest says "
                f"{m.image.size} and {m.image_tokens.max}; export or install the bundle again"
            )
        return tower, llm

    def _encoder(self, tower: VisionTower, lock: FairLock | None) -> ImageEncoder:
        disk = self._store("embeddings", self._options.cache)
        return ImageEncoder(
            tower,
            self._manifest.image,
            tower_sha256=self._sha256("vision", self._plan.vision),
            cache=EmbeddingCache(ram_bytes=self._ram_bytes, disk=disk),
            turns=lock,
            worth_keeping_s=self._options.worth_keeping_s,
        )

    def _open_context(self, llm: LanguageModel, n_prefix: int) -> Context:
        plan, m, ctx = self._plan, self._manifest, self._options.ctx
        questions = [m.rating.question, m.prompt.critique, *m.rating.attributes.values()]
        longest = max(len(llm.tokenize(self._template.after_image(question))) for question in questions)
        needed = n_prefix + plan.n_image_tokens + longest + 1
        if ctx is not None and ctx < needed:
            raise ContextFullError(
                f"--ctx {ctx} is too small: the text before the image takes {n_prefix} positions, the image "
                f"{plan.n_image_tokens}, the longest question {longest}; at least --ctx {needed} is needed"
            )
        return Context(
            llm,
            n_ctx=plan.n_ctx(n_prefix),
            n_seq_max=N_SEQ_MAX,
            n_threads=plan.threads,
            n_threads_batch=plan.threads_batch,
            kv_type=plan.kv_type,
            flash_attention=plan.flash_attention,
            kernels=plan.kernels,
        )

    def _kv_store(self, context: Context, prefix: list[int]) -> KVStateStore:
        plan = self._plan
        return KVStateStore(
            self._store("kv", KV_BUDGET),
            context,
            gguf_sha256=self._sha256("llm", plan.gguf),
            prefix=prefix,
            template=self._manifest.prompt.template,
            settings={
                "n_batch": context.n_batch,
                "n_ubatch": plan.n_ubatch,
                "threads": plan.threads_batch,
                "repack": plan.repack,
                "kernels": kernels_in_use(wanted=plan.kernels),
                "flash_attention": plan.flash_attention,
                "device": plan.device,
                "gpu_layers": self._n_gpu_layers,
            },
        )

    def _store(self, kind: Kind, budget: str) -> DiskStore | None:
        """Open a folder of the cache; with ``--cache-size 0`` nothing is read from it or written to it."""
        no_cache = self._options.cache.strip() == "0"
        return None if no_cache else open_store(kind, budget, self._options.cache_folder)

    def _sha256(self, role: Role, type_: str) -> str:
        """Return a file's hash from the manifest; ``Bundle.hashed_paths`` has compared it with the file."""
        file = self._manifest.file(role, type_)
        return file.sha256 if file else ""


def _load_prefix(internals: Internals, prefix: list[int], worth_keeping_s: float) -> None:
    """Bring the text before every image into the KV cache, from disk where it was kept."""
    kv_store, sequences, scheduler = internals.kv_store, internals.sequences, internals.scheduler
    key, seq_id = kv_store.key(None), sequences.prefix_seq_id
    if scheduler.call(lambda: kv_store.restore(key, seq_id, len(prefix))).wait():
        return
    started = time.perf_counter()
    scheduler.submit(sequences.prefill_prefix(prefix)).wait()
    if time.perf_counter() - started >= worth_keeping_s:
        state = scheduler.call(lambda: sequences.context.save(seq_id)).wait()
        kv_store.put(key, state, len(prefix), pinned=False)
