"""The parts of a loaded bundle that photos, conversations and batches share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import Manifest
    from aesedge.config.plan import Plan
    from aesedge.engine.rating import LabelTokens
    from aesedge.llm import LanguageModel
    from aesedge.llm.prompt import PromptTemplate
    from aesedge.scheduling.kv_cache import SequenceCache
    from aesedge.scheduling.kv_states_on_disk import KVStateStore
    from aesedge.scheduling.scheduler import Scheduler
    from aesedge.vision.encoder import ImageEncoder
    from aesedge.vision.tower import VisionTower


@dataclass(frozen=True, kw_only=True)
class Internals:
    """The parts of a loaded bundle, for aesedge's own commands; they may change with every release."""

    bundle: Bundle
    plan: Plan
    """The settings in use."""
    n_gpu_layers: int
    llm: LanguageModel
    tower: VisionTower
    encoder: ImageEncoder
    tower_shares_cores: bool
    """Whether vision tower and language model run on the same CPU cores, and so one after the other."""
    template: PromptTemplate
    labels: LabelTokens
    sequences: SequenceCache
    scheduler: Scheduler
    kv_store: KVStateStore

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    def question_tokens(self, question: str) -> list[int]:
        """Return the tokens that follow the image when a question is asked about it."""
        return self.llm.tokenize(self.template.after_image(question))
