"""Train projector and language model on stored tower features and generated talk about them.

It knows tokens, masks and features; it does not know pixels. Several questions about one photograph are trained
in one row: the image prefix, then branches that see the prefix and themselves, each starting at the same position.
That is how the runtime forks the KV cache at inference.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .crops import N_PATCHES
from .language import (
    LABELS,
    SCORED,
    Speaker,
    conversation,
    drill,
    label_probabilities,
    score_question,
    severity_about,
)  # fmt: skip
from .progress import device, rank, resume, save, set_rate, share_gradients
from .questions import CRITIQUE_QUESTION
from .tokenizer import BOS, EOS, SYSTEM, first_chunk, next_chunk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import sentencepiece
    from transformers import LlavaForConditionalGeneration

    from .impression import Impression

IGNORED = -100
IMAGE_TOKENS, HOW_OFTEN = (16, 36, 64, 100, N_PATCHES), (0.25, 0.3, 0.2, 0.05, 0.2)
"""Rows of the image that a batch sees: the runtime may leave rows out, and fewer are learnt faster."""
SAVE_EVERY = 100
SCORE_WEIGHT = 2.0
SHORT_WEIGHT = 4.0
"""How much the first token of a drilled answer counts (Yes, No, a letter): it holds all that was to be learnt."""
WORD_SHARE = 0.85
"""Share of score answers in words ("High"); the rest name the letter ("A) High")."""


@dataclass
class Branch:
    """One conversation behind the image: token ids, targets (IGNORED where nothing is learnt), score targets."""

    ids: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    """How much each target counts."""
    score: tuple[int, list[float]] | None = None
    """Index whose next token is the score label, and the probabilities of the six label tokens."""


class Texts:
    """Draws conversations and turns them into branches, tokenised exactly as the runtime does."""

    def __init__(self, tokenizer: sentencepiece.SentencePieceProcessor) -> None:
        self.tokenizer = tokenizer
        self.prefix = [BOS, *tokenizer.encode(SYSTEM)]
        self.label_tokens = [tokenizer.encode(word)[0] for word in (*LABELS, "A", "B", "C")]

    def say(self, branch: Branch, question: str, answer: str, *, weight: float = 1.0) -> Branch:
        """Append one turn; the answer and the end of text are learnt, its first token counts `weight` times."""
        chunk = next_chunk(question) if branch.ids else first_chunk(question)
        prompt, reply = self.tokenizer.encode(chunk), [*self.tokenizer.encode(answer), EOS]
        branch.ids += prompt + reply
        branch.targets += [IGNORED] * len(prompt) + reply
        branch.weights += [1.0] * len(prompt) + [weight] + [1.0] * (len(reply) - 1)
        return branch

    def score(self, about: str, seen: Impression, rng: np.random.Generator) -> Branch:
        """Return a score question whose first answer token is taught as a distribution."""
        severity = seen.total if about == SCORED[0] else severity_about(about, seen.estimate)
        probabilities = np.array(label_probabilities(severity))
        label = int(rng.choice(3, p=probabilities / probabilities.sum()))
        answer = LABELS[label] if rng.random() < WORD_SHARE else f"{'ABC'[label]}) {LABELS[label]}"
        branch = self.say(Branch(), score_question(about), answer)
        at = branch.targets.index(next(t for t in branch.targets if t != IGNORED))
        branch.targets[at] = IGNORED
        branch.score = (at - 1, [*(WORD_SHARE * probabilities), *((1 - WORD_SHARE) * probabilities)])
        return branch

    def branches(self, seen: Impression, looks: Sequence[str], rng: np.random.Generator, n_talks: int) -> list[Branch]:
        """Return one score of the whole, one of an attribute, the critique, drill, and `n_talks` conversations."""
        about = SCORED[1 + int(rng.integers(len(SCORED) - 1))]
        found = [self.score(SCORED[0], seen, rng), self.score(about, seen, rng)]
        speaker = Speaker(seen.faults, rng, looks, seen.total)
        found.append(self.say(Branch(), CRITIQUE_QUESTION, speaker.critique()))
        found += [self.say(Branch(), question, answer, weight=SHORT_WEIGHT) for question, answer in drill(seen, rng)]
        for _ in range(n_talks):
            branch = Branch()
            for question, answer in conversation(seen, rng, looks):
                self.say(branch, question, answer)
            found.append(branch)
        return found


@dataclass
class Batch:
    """Padded rows: prefix, image slots, branches one behind the other."""

    ids: Tensor
    """int64 [n, length]; image slots hold 0."""
    positions: Tensor
    segment: Tensor
    """int64 [n, length]: 0 the shared prefix, 1.. the branches, -1 padding."""
    targets: Tensor
    weights: Tensor
    """How much each target counts, float32 [n, length]."""
    scores: list[tuple[int, int, list[float]]]

    def to(self, place: torch.device) -> Batch:
        """Return it on a device."""
        ids, positions, segment = self.ids.to(place), self.positions.to(place), self.segment.to(place)
        return Batch(ids, positions, segment, self.targets.to(place), self.weights.to(place), self.scores)


def collate(rows: list[list[Branch]], prefix: list[int], n_image: int) -> Batch:
    """Lay the branches of each photograph behind the shared prefix; positions are counted as the runtime does."""
    n_prefix = len(prefix)
    start = n_prefix + n_image
    length = start + max(sum(len(b.ids) for b in row) for row in rows)
    ids, positions = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.long)
    segment, targets = torch.full((len(rows), length), -1), torch.full((len(rows), length), IGNORED)
    weights = torch.ones(len(rows), length)
    ids[:, :n_prefix] = torch.tensor(prefix)
    positions[:, :start] = torch.arange(start)
    segment[:, :start] = 0
    scores = []
    for i, row in enumerate(rows):
        at = start
        for number, branch in enumerate(row, 1):
            end = at + len(branch.ids)
            ids[i, at:end] = torch.tensor(branch.ids)
            positions[i, at:end] = start + torch.arange(len(branch.ids))
            segment[i, at:end] = number
            targets[i, at : end - 1] = torch.tensor(branch.targets[1:])  # the token that comes next
            weights[i, at : end - 1] = torch.tensor(branch.weights[1:])
            if branch.score:
                scores.append((i, at + branch.score[0], branch.score[1]))
            at = end
    return Batch(ids, positions, segment, targets, weights, scores)


def block_mask(segment: Tensor) -> Tensor:
    """Return bool [n, 1, length, length], true where a row may look: back into the prefix and its own branch."""
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    same = segment[:, :, None] == segment[:, None, :]
    return ((same | (segment[:, None, :] == 0)) & causal)[:, None]


def loss_of(model: LlavaForConditionalGeneration, batch: Batch, features: Tensor, label_tokens: list[int]) -> Tensor:
    """Cross-entropy of the answers, and of the score labels against their distributions."""
    llama = model.model.language_model
    embeds = llama.embed_tokens(batch.ids)
    n_prefix = int((batch.segment[0] == 0).sum()) - features.shape[1]
    image = model.model.multi_modal_projector(features).to(embeds.dtype)
    embeds = torch.cat([embeds[:, :n_prefix], image, embeds[:, n_prefix + image.shape[1] :]], 1)
    mask = torch.zeros(1, device=embeds.device).masked_fill(~block_mask(batch.segment), torch.finfo(torch.float32).min)
    hidden = llama(inputs_embeds=embeds, attention_mask=mask, position_ids=batch.positions, use_cache=False)[0]
    chosen = batch.targets != IGNORED
    each = nn.functional.cross_entropy(model.lm_head(hidden[chosen]).float(), batch.targets[chosen], reduction="none")
    loss = (each * batch.weights[chosen]).mean()
    rows, columns, targets = zip(*batch.scores, strict=True)
    logits = model.lm_head(hidden[list(rows), list(columns)]).float().log_softmax(-1)[:, label_tokens]
    target = torch.tensor(targets, device=logits.device)
    return loss + SCORE_WEIGHT * (target * (target.clamp(min=1e-6).log() - logits)).sum(-1).mean()


@dataclass
class Lessons:
    """What is talked about: features float16 [n, N_PATCHES, width], impression and looks of each picture."""

    features: npt.NDArray[np.float16]
    seen: Sequence[Impression]
    looks: Sequence[Sequence[str]]
    """What shows in the colors, and where the subject stands."""

    def draw(
        self, texts: Texts, rng: np.random.Generator, *, rows: int, n_image: int, n_talks: int
    ) -> tuple[Batch, Tensor]:
        """Return talk about random pictures, and the features of `n_image` of their patches, float32."""
        patches = np.sort(rng.permutation(N_PATCHES)[:n_image])
        picked = rng.integers(len(self.seen), size=rows)
        talk = [texts.branches(self.seen[i], self.looks[i], rng, n_talks) for i in picked]
        features = np.stack([self.features[i][patches] for i in picked]).astype(np.float32)
        return collate(talk, texts.prefix, n_image), torch.from_numpy(features)


def train_language(
    model: LlavaForConditionalGeneration,
    lessons: Lessons,
    texts: Texts,
    checkpoint: Path,
    *,
    steps: int,
    rate: float = 2e-3,
    rows: int = 12,
    seed: int = 0,
) -> None:
    """Train projector and language model for `steps`, resumed from `checkpoint` if it is there."""
    model.model.vision_tower.requires_grad_(requires_grad=False)
    place = device()
    model.to(place)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.05)
    step = resume(checkpoint, model, optimizer)
    start, running = time.process_time(), 0.0
    while step < steps:
        n_image = int(np.random.default_rng((seed, 4, step)).choice(IMAGE_TOKENS, p=HOW_OFTEN))
        rng = np.random.default_rng((seed, 3, step, rank()))
        batch, features = lessons.draw(texts, rng, rows=rows, n_image=n_image, n_talks=1)
        set_rate(optimizer, rate, step=step, n_warm_up=60, done=step / steps)
        with torch.autocast(place.type, torch.bfloat16):
            loss = loss_of(model, batch.to(place), features.to(place), texts.label_tokens)
        optimizer.zero_grad()
        loss.backward()
        share_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        running = 0.97 * running + 0.03 * float(loss.detach()) if running else float(loss.detach())
        if step % 20 == 0:
            spent = f"{time.process_time() - start:.0f} s of processor"
            print(f"language step {step} of {steps} ({spent}) {running:.4f}", flush=True)
        if step % SAVE_EVERY == 0 or step == steps:
            save(checkpoint, model, optimizer, step)
