"""Judge photographs with the PyTorch checkpoint: the reference that the exported bundle is compared with.

It knows the checkpoint folder and LLaVA's prompt; it does not know faults or figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import sentencepiece
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration
from transformers.cache_utils import DynamicCache

from .crops import to_tower
from .language import LABELS, score_question
from .questions import CRITIQUE_QUESTION
from .tokenizer import BOS, EOS, SYSTEM, first_chunk
from .tower import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image


class TorchJudge:
    """Scores and critiques from one checkpoint, in float32 and greedily; many pictures at once."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(checkpoint / "tokenizer.model"))
        self.labels = [[self.tokenizer.encode(w)[0] for w in pair] for pair in zip(LABELS, "ABC", strict=True)]

    def embed(self, ids: list[list[int]]) -> Tensor:
        """Return rows of the token table, float32 [n, tokens, width]."""
        return self.model.get_input_embeddings()(torch.tensor(ids))

    def forward(self, embeds: Tensor, cache: DynamicCache) -> Tensor:
        """Append rows to the cache and return the logits of the last ones, float32 [n, vocab]."""
        hidden = self.model.model.language_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)[0]
        return self.model.lm_head(hidden[:, -1])

    @torch.no_grad()
    def prefill(self, images: Sequence[Image.Image]) -> DynamicCache:
        """Return the cache of prompt and image, one row per picture."""
        pixels = normalise(torch.from_numpy(np.stack([np.asarray(to_tower(image)) for image in images])))
        found = self.model.model.get_image_features(
            pixels, vision_feature_layer=-2, vision_feature_select_strategy="default"
        )
        found = torch.cat(list(found)) if isinstance(found, (list, tuple)) else found
        rows = found.reshape(len(images), -1, self.model.config.text_config.hidden_size)
        prefix = self.embed([[BOS, *self.tokenizer.encode(SYSTEM)]]).expand(len(images), -1, -1)
        cache = DynamicCache()
        self.forward(torch.cat([prefix, rows], 1), cache)
        return cache

    @torch.no_grad()
    def label_probabilities(self, cache: DynamicCache, n: int, about: str = "aesthetic quality") -> Tensor:
        """Return the probabilities of High, Medium and Low, words and letters added, float32 [n, 3]."""
        length = cache.get_seq_length()
        question = self.tokenizer.encode(first_chunk(score_question(about)))
        logits = self.forward(self.embed([question] * n), cache)
        cache.crop(length)
        return torch.stack([logits[:, pair].logsumexp(1) for pair in self.labels], 1).softmax(1)

    @torch.no_grad()
    def answers(self, cache: DynamicCache, n: int, question: str, max_tokens: int = 128) -> list[str]:
        """Return the greedy answers to one question about each picture."""
        length = cache.get_seq_length()
        logits = self.forward(self.embed([self.tokenizer.encode(first_chunk(question))] * n), cache)
        tokens: list[list[int]] = [[] for _ in range(n)]
        ended = [False] * n
        for _ in range(max_tokens):
            chosen = logits.argmax(1).tolist()
            ended = [over or token == EOS for over, token in zip(ended, chosen, strict=True)]
            if all(ended):
                break
            for answer, token, over in zip(tokens, chosen, ended, strict=True):
                if not over:
                    answer.append(token)
            logits = self.forward(self.embed([[token] for token in chosen]), cache)
        cache.crop(length)
        return [self.tokenizer.decode(answer).strip() for answer in tokens]

    def judge(self, images: Sequence[Image.Image], *, critiques: bool = True) -> list[tuple[float, str]]:
        """Return score and critique of each picture, from one prefill."""
        cache = self.prefill(images)
        probabilities = self.label_probabilities(cache, len(images))
        scores = (10 * (probabilities[:, 0] + 0.5 * probabilities[:, 1])).tolist()
        texts = self.answers(cache, len(images), CRITIQUE_QUESTION) if critiques else [""] * len(images)
        return list(zip(scores, texts, strict=True))

    def answers_about(self, image: Image.Image, questions: Sequence[str]) -> list[str]:
        """Return the answer to each question about one picture."""
        cache = self.prefill([image])
        return [self.answers(cache, 1, question)[0] for question in questions]
