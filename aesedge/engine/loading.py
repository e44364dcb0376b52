"""Load a bundle: vision tower, language model, KV cache, and their caches on disk."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from aesedge.bundle.manifest import MANIFEST_NAME
from aesedge.cache import EmbeddingCache, open_store
from aesedge.config.memory import check_fit
from aesedge.config.planning import make_plan
from aesedge.engine.internals import Internals
from aesedge.engine.rating import label_tokens
from aesedge.errors import BundleFormatError, ContextFullError
from aesedge.llm import Context, LanguageModel
from aesedge.llm.limits import N_SEQ_MAX
from aesedge.llm.prompt import prompt_template
from aesedge.scheduling.kv_store import KVStateStore
from aesedge.scheduling.scheduler import Scheduler
from aesedge.scheduling.sequences import SequenceCache
from aesedge.system.fair_lock import FairLock
from aesedge.system.machine import n_cores, trim_heap
from aesedge.vision.encoder import ImageEncoder
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import Manifest, Role
    from aesedge.cache.disk_store import DiskStore, Kind
    from aesedge.config.options import Options

KV_BUDGET = "1GB"
"""For the text before images; pinned photos count, and are never evicted."""
RAM_BYTES = 32_000_000
"""For image embeddings in memory, where that is free: 6 photos at 7B, 250 of pocket. The disk holds more, 8 ms away."""


def load(
    bundle: Bundle, options: Options, progress: Callable[[float], None] | None = None
) -> tuple[Internals, ExitStack]:
    """Load a bundle; see :class:`aesedge.engine.model.Model` for arguments and errors.

    Returns:
        Its parts, and the stack that closes them.
    """
    manifest = bundle.manifest
    plan = make_plan(options, bundle)
    files: list[tuple[Role, str]] = [("vision", plan.vision), ("llm", plan.gguf)]
    tower_path, llm_path = bundle.hashed_paths(*files)
    fit = check_fit(bundle, plan, options.memory)
    bundle.check_loads(*files)
    plan, n_gpu_layers = fit.estimate.plan, fit.estimate.gpu_layers
    template = prompt_template(manifest.prompt.template)
    with ExitStack() as stack:
        with ThreadPoolExecutor(1) as pool:  # tower and language model load at the same time
            future = pool.submit(VisionTower, tower_path, device=plan.vision_device, n_threads=plan.threads_vision)
            llm = stack.enter_context(
                LanguageModel(llm_path, gpu_layers=n_gpu_layers, progress=progress, repack=plan.repack)
            )
            tower = stack.enter_context(future.result())
        trim_heap()
        # On a GPU for either, or with cores to spare, they run side by side; on shared cores one after the other.
        shares_cores = not n_gpu_layers and tower.is_on_cpu and plan.threads_batch >= n_cores()
        _check_parts_belong_together(manifest, tower, llm)
        rating, where = manifest.rating, bundle.folder / MANIFEST_NAME
        lock = FairLock()
        prefix = [llm.bos, *llm.tokenize(template.before_image)]
        questions = [rating.question, manifest.prompt.critique, *rating.attributes.values()]
        n_question = max(len(llm.tokenize(template.after_image(question))) for question in questions)
        _check_ctx(options, len(prefix), plan.n_image_tokens, n_question)
        context = stack.enter_context(
            Context(
                llm,
                n_ctx=plan.n_ctx(len(prefix)),
                n_seq_max=N_SEQ_MAX,
                n_threads=plan.threads,
                n_threads_batch=plan.threads_batch,
                kv_type=plan.kv_type,
                flash_attention=plan.flash_attention,
            )
        )
        sequences = SequenceCache(context, len(prefix))
        encoder = ImageEncoder(
            tower,
            manifest.image,
            tower_sha256=_sha256(manifest, "vision", plan.vision),
            cache=EmbeddingCache(
                ram_bytes=min(RAM_BYTES, fit.spare_bytes), disk=_store("embeddings", options.cache, options)
            ),
            turns=lock if shares_cores else None,
            worth_keeping_s=options.worth_keeping_s,
        )
        scheduler = Scheduler(context, sequences, lock, n_ubatch=plan.n_ubatch)
        stack.callback(scheduler.close)
        internals = Internals(
            bundle=bundle,
            plan=plan,
            n_gpu_layers=n_gpu_layers,
            llm=llm,
            tower=tower,
            encoder=encoder,
            tower_shares_cores=shares_cores,
            template=template,
            labels=label_tokens(rating.labels, rating.weights, llm.tokenize, where),
            sequences=sequences,
            scheduler=scheduler,
            kv_store=KVStateStore(
                _store("kv", KV_BUDGET, options),
                context,
                gguf_sha256=_sha256(manifest, "llm", plan.gguf),
                prefix=prefix,
                template=manifest.prompt.template,
                settings={
                    "n_batch": context.n_batch,
                    "n_ubatch": plan.n_ubatch,
                    "threads": plan.threads_batch,
                    "repack": plan.repack,
                    "flash_attention": plan.flash_attention,
                    "device": plan.device,
                    "gpu_layers": n_gpu_layers,
                },
            ),
        )
        _load_prefix(internals, prefix, options.worth_keeping_s)
        # Complete: the stack closes it, the last opened first, as llama.cpp requires.
        return internals, stack.pop_all()


def _sha256(manifest: Manifest, role: Role, type_: str) -> str:
    """Return a file's hash from the manifest; ``Bundle.hashed_paths`` has compared it with the file."""
    file = manifest.file(role, type_)
    return file.sha256 if file else ""


def _check_parts_belong_together(manifest: Manifest, tower: VisionTower, llm: LanguageModel) -> None:
    """Check sizes before llama.cpp reads past the end of a row."""
    if not tower.n_embd == llm.n_embd == manifest.n_embd:
        raise BundleFormatError(
            f"{tower.path}: the projector's rows are {tower.n_embd} wide, the language model's {llm.n_embd}, "
            f"the manifest says {manifest.n_embd}; export or install the bundle again"
        )
    if (tower.image_size, tower.n_image_tokens) != (manifest.image.size, manifest.image_tokens.max):
        raise BundleFormatError(
            f"{tower.path}: {tower.image_size} pixels and {tower.n_image_tokens} image tokens, the manifest says "
            f"{manifest.image.size} and {manifest.image_tokens.max}; export or install the bundle again"
        )


def _check_ctx(options: Options, n_prefix: int, n_image: int, n_question: int) -> None:
    """Check that ``--ctx`` has room for the text before the image, the image and the longest question."""
    needed = n_prefix + n_image + n_question + 1
    if options.ctx is not None and options.ctx < needed:
        raise ContextFullError(
            f"--ctx {options.ctx} is too small: the text before the image takes {n_prefix} positions, the image "
            f"{n_image}, the longest question {n_question}; at least --ctx {needed} is needed"
        )


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


def _store(kind: Kind, budget: str, options: Options) -> DiskStore | None:
    """Open a folder of the cache; with ``--cache-size 0`` nothing is read from it or written to it."""
    if options.cache.strip() == "0":
        return None
    return open_store(kind, budget, options.cache_folder)
