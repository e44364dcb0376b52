"""What is open at a time: towers, weights, KV caches, each as long as it is needed; knows no rules of who wins."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

from aesedge.image import preprocess, read_image
from aesedge.llm import Context, LanguageModel
from aesedge.machine import give_back_freed
from aesedge.memory.dry_run import DryRun
from aesedge.prompt import prompt_template
from aesedge.rating import label_tokens
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.tuning.candidates import tower_of
from aesedge.tuning.room import Room, Weights, weights_of
from aesedge.tuning.steps import Step, Workload
from aesedge.tuning.trial import N_SEQUENCES, LanguageTrial, Prompts, TowerTrial
from aesedge.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from aesedge.bundle import Bundle
    from aesedge.plan import Plan
    from aesedge.profile import Settings
    from aesedge.tuning.opener import Part
    from aesedge.tuning.steps import Phase

_ROOM_FOR_TEXT = 64 + 16
"""Positions after a question: what is decoded, and answers of several tokens."""
# What opening takes, to plan with: measured at 7B, from files that the system has in memory.
_MAPPED_S_PER_BYTE, _REPACKED_S_PER_BYTE, _GRAPH_S_PER_BYTE = 0.3e-9, 2e-9, 4e-9
_CONTEXT_S = 0.3


class Laboratory:
    """Opens what is to be timed, and closes what is not needed any more. Close it, or use it as a context manager.

    Args:
        bundle: what is tried.
        plan: how, but for the settings.
        memory: the user's budget.
        seconds: when it stops what the language model does, whatever that is.

    Raises:
        AesedgeError: see :class:`aesedge.engine.Model`.
    """

    def __init__(self, bundle: Bundle, plan: Plan, memory: str | None, seconds: float) -> None:
        self._is_over = False
        self._timer = threading.Timer(max(0.0, seconds), self._stop)
        self._timer.daemon = True
        self._bundle = bundle
        self._plan = plan
        manifest = bundle.manifest
        self._pixels = [
            preprocess(read_image(path, size_hint=manifest.image.size), manifest.image) for path in SAMPLE_PHOTOS
        ]
        self._template = prompt_template(manifest.prompt.template)
        self._questions = [manifest.rating.question, manifest.prompt.critique]
        n_prefix, n_question = self._count_tokens()
        self.work = Workload(plan.n_image_tokens, n_question, len(self._pixels))
        self._n_ctx = n_prefix + plan.n_image_tokens + n_question + _ROOM_FOR_TEXT
        self.room = Room(bundle, plan, memory, self._n_ctx)
        self._models: dict[Weights, tuple[LanguageModel, Settings]] = {}
        self._open: dict[tuple[Part, Settings], TowerTrial | LanguageTrial] = {}
        self._rows: dict[tuple[str, str, int], dict[int, npt.NDArray[np.float32]]] = {}
        self._rates: dict[tuple[Part, Settings], Mapping[Phase, float]] = {}
        self.provider = ""
        """What runs the tower; known once one was open."""
        self._timer.start()

    def _stop(self) -> None:
        self._is_over = True
        for trial in list(self._open.values()):
            trial.abort()

    def _count_tokens(self) -> tuple[int, int]:
        with DryRun(self._bundle.path("llm", self._plan.gguf)) as header:
            asked = self._template.after_image(self._questions[0])
            return 1 + header.n_tokens(self._template.before_image), header.n_tokens(asked)

    def subjects(self, part: Part, wanted: Sequence[Settings]) -> list[TowerTrial | LanguageTrial]:
        """Open what is wanted, warm, and close the rest.

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
                self._rates[part, settings] = opened.warm()
        return [self._open[part, settings] for settings in wanted]

    def _tower(self, settings: Settings) -> TowerTrial:
        path = self._bundle.path("vision", settings.vision)
        tower = VisionTower(path, device=settings.vision_device, n_threads=settings.threads_vision)
        self.provider = tower.provider
        give_back_freed()
        kept = self._rows.setdefault(tower_of(settings), {})
        return TowerTrial(tower, self._pixels, kept.__setitem__)

    def _language(self, settings: Settings, wanted: Sequence[Settings]) -> LanguageTrial:
        rows = self.rows(settings)
        model = self._model(settings, wanted)
        prompts = self._prompts(model)
        context = Context(
            model,
            n_ctx=self._n_ctx,
            n_seq_max=N_SEQUENCES,
            n_threads=settings.threads,
            n_threads_batch=settings.threads_batch,
            kv_type=settings.kv_type,
            flash_attention=settings.flash_attention,
        )
        return LanguageTrial(context, prompts, rows.__getitem__, chunk=settings.chunk)

    def _prompts(self, model: LanguageModel) -> Prompts:
        rating = self._bundle.manifest.rating
        prefix, asked, text = (
            model.tokenize(t) for t in (self._template.before_image, *map(self._template.after_image, self._questions))
        )
        return Prompts([model.bos, *prefix], asked, label_tokens(rating.labels, rating.weights, model.tokenize), text)

    def _model(self, settings: Settings, wanted: Sequence[Settings]) -> LanguageModel:
        """Return weights, loading them if they are not there; others stay loaded where there is room."""
        key = weights_of(settings)
        needed = {weights_of(s) for s in wanted}
        idle = [s for k, (_, s) in self._models.items() if k not in needed]
        if idle and not self.room.has_for(wanted, idle):
            for k in [k for k in self._models if k not in needed]:
                self._models.pop(k)[0].close()
        if key not in self._models:
            path = self._bundle.path("llm", self._plan.gguf)
            layers = self.room.gpu_layers(settings)
            self._models[key] = LanguageModel(path, gpu_layers=layers, repack=settings.repack), settings
        return self._models[key][0]

    def rows(self, settings: Settings) -> Mapping[int, npt.NDArray[np.float32]]:
        """Return what the tower sees in each photo, float32 [n_image_tokens, n_embd]."""
        found = self._rows.setdefault(tower_of(settings), {})
        missing = [i for i in range(self.work.n_photos) if i not in found]
        if missing:
            opened = self._open.get(("vision", settings))
            tower = opened or self._tower(settings)
            for i in missing:
                tower.run(Step("see", photo=i))
            if opened is None:
                tower.close()
        return found

    def same_rows(self, one: Settings, other: Settings) -> bool:
        """Whether two towers see the same, to the last bit."""
        seen, also = self.rows(one), self.rows(other)
        return all((seen[i] == also[i]).all() for i in range(self.work.n_photos))

    def rates(self, part: Part, settings: Settings) -> Mapping[Phase, float]:
        """Return the seconds for a unit of each phase, of what was opened once."""
        return self._rates[part, settings]

    def opening_s(self, part: Part, settings: Settings, unit_s: float) -> float:
        """Return about how long opening takes.

        Args:
            part: which.
            settings: how.
            unit_s: seconds for a photo, or for a row.
        """
        if (part, settings) in self._open:
            return 0.0
        if part == "vision":
            return _GRAPH_S_PER_BYTE * self._n_bytes("vision", settings.vision) + 2 * unit_s
        loading = 0.0
        if weights_of(settings) not in self._models:
            repacks = settings.repack and self.room.repacks(settings)
            per_byte = _REPACKED_S_PER_BYTE if repacks else _MAPPED_S_PER_BYTE
            loading = per_byte * self._n_bytes("llm", self._plan.gguf)
        return loading + _CONTEXT_S + unit_s * (self._n_ctx - self.work.n_image - _ROOM_FOR_TEXT)

    def _n_bytes(self, role: Literal["vision", "llm"], type_: str) -> int:
        file = self._bundle.manifest.file(role, type_)
        return file.n_bytes if file else 0

    def has_room(self, settings: Settings) -> bool:
        """Whether settings fit memory as users run them."""
        return self.room.has(settings)

    def together(self, part: Part, base: Settings, variant: Settings) -> bool:
        """Whether both can be open at once."""
        if part == "vision":  # there is no KV cache and there are no weights yet, or they are idle
            return self.room.has(base) and self.room.has(variant)
        return self.room.has_for([base, variant])

    def close(self) -> None:
        """Close everything. Closing twice does nothing."""
        self._timer.cancel()
        self._timer.join()
        while self._open:
            self._open.popitem()[1].close()
        while self._models:
            self._models.popitem()[1][0].close()
        give_back_freed()

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
