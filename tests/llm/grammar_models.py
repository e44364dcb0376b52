"""What grammars are tried on beside the tiny model: one that finds all tokens likely, and the vocabulary of Llama."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from conftest import SHARED

if TYPE_CHECKING:
    from aesedge.llm import LanguageModel

FULL_VOCABULARY = SHARED / "vocab" / "ggml-vocab-llama-spm.gguf"


class Noise:
    """Stands in for a context whose model finds every token equally likely."""

    def __init__(self, model: LanguageModel, seed: int = 0) -> None:
        self.model = model
        self._rng = np.random.default_rng(seed)

    def logits(self, _row: int) -> np.ndarray:
        return self._rng.standard_normal(self.model.n_vocab).astype(np.float32)
