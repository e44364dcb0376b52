"""Train the code of the judgement and the language model on generated talk about drawn judgements; no pixels.

Several questions about one photograph are trained in one row: the image prefix, then branches that see the prefix and
themselves, each starting at the same position. That is how the runtime forks the KV cache at inference.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from .judgement import Judgement, JudgementCode, as_tensors, draw_judgement, label_probabilities
from .language import LABELS, score_question
from .optimizers import Optimizers
from .phrases import ATTRIBUTES
from .progress import n_together, rank, resume, save, set_rate, share_gradients
from .questions import CRITIQUE_QUESTION
from .talk import Partner, conversation, drill
from .tokenizer import BOS, EOS, N_PIECES, SYSTEM, first_chunk, next_chunk

if TYPE_CHECKING:
    from pathlib import Path

    import sentencepiece

IGNORED = -100
OPTION_LINE = re.compile(r"^\(?([A-D])[).:] ", re.MULTILINE)
"""How a line with an option begins."""
WIDTH = 256
"""Of a row: llama.cpp's k-quants need multiples of 256."""
VOCAB = 2048
IMAGE_TOKENS, HOW_OFTEN = (16, 36, 144), (0.8, 0.14, 0.06)
"""Copies of the row that a batch sees: the runtime may ask for any number, and fewer are learnt faster."""
SAVE_EVERY = 20
RISES_FOR = 60
"""Steps in which the learning rate rises; from there it falls in a line, to nothing at the end."""
LETTERS_FROM, N_CHOICES = 400, 4
"""Step from which letters are learnt, and the multiple choice questions about one judgement from there."""
ROWS_TOGETHER = 4
"""Judgements in one batch; the gradients of several are added."""
SCORE_WEIGHT = 2.0
SHORT_WEIGHT = 3.0
"""How much the first token of a drilled answer counts (Yes, No, a letter): it holds all that was to be learnt."""
WORD_SHARE = 0.85
"""Share of score answers in words ("High"); the rest name the letter ("A) High")."""


class LanguageModel(nn.Module):
    """The language model, and the code in which it is told the judgement."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.code = JudgementCode(WIDTH)
        self.llama = LlamaForCausalLM(llama_config())
        depth = 2 * self.llama.config.num_hidden_layers
        with torch.no_grad():
            for name, weight in self.llama.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.mul_(depth**-0.5)


def llama_config() -> LlamaConfig:
    """Return the shape of the language model."""
    return LlamaConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
        tie_word_embeddings=False, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=N_PIECES, initializer_range=0.04,
    )  # fmt: skip


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
        self.newline = tokenizer.piece_to_id("<0x0A>")
        self.verdicts = [tokenizer.encode(word)[0] for word in ("No.", "Yes.")]

    def say(self, branch: Branch, question: str, answer: str, *, weight: float = 1.0) -> Branch:
        """Append one turn; the answer and the end of text are learnt, its first token counts `weight` times."""
        chunk = next_chunk(question) if branch.ids else first_chunk(question)
        prompt, reply = self.tokenizer.encode(chunk), [*self.tokenizer.encode(answer), EOS]
        branch.ids += prompt + reply
        branch.targets += [IGNORED] * len(prompt) + reply
        branch.weights += [1.0] * len(prompt) + [weight] + [1.0] * (len(reply) - 1)
        return branch

    def choose(self, question: str, answer: str) -> Branch:
        """Return a multiple choice question; at the end of each option it is learnt, too, whether that one is right.

        From the letter alone it is not learnt in any time: which option is right must be known before.
        """
        branch = self.say(Branch(), question, answer, weight=SHORT_WEIGHT)
        if answer[1:2] not in ("", ")"):  # a sentence: none of the options is known to be right
            return branch
        ends = [at for at, token in enumerate(branch.ids) if token == self.newline][2:]  # two are before the options
        for at, option in zip(ends, OPTION_LINE.findall(question), strict=True):
            branch.targets[at + 1] = self.verdicts[option == answer[0]]
        return branch

    def score(self, about: str, judgement: Judgement, rng: np.random.Generator) -> Branch:
        """Return a score question whose first answer token is taught as a distribution."""
        quality = judgement.attributes[about] if about else judgement.quality
        probabilities = np.array(label_probabilities(quality))
        label = int(rng.choice(3, p=probabilities / probabilities.sum()))
        answer = LABELS[label] if rng.random() < WORD_SHARE else f"{'ABC'[label]}) {LABELS[label]}"
        branch = self.say(Branch(), score_question(about), answer)
        at = branch.targets.index(next(t for t in branch.targets if t != IGNORED))
        branch.targets[at] = IGNORED
        branch.score = (at - 1, [*(WORD_SHARE * probabilities), *((1 - WORD_SHARE) * probabilities)])
        return branch

    def branches(self, judgement: Judgement, rng: np.random.Generator, *, letters: bool = False) -> list[Branch]:
        """Return a score of the whole and perhaps of an attribute, perhaps the critique, drill, conversations."""
        about = str(rng.choice(tuple(ATTRIBUTES)))
        found = [self.score("", judgement, rng)]
        if rng.random() < 0.5:
            found.append(self.score(about, judgement, rng))
        partner = Partner(judgement, rng)
        if rng.random() < 0.5:
            found.append(self.say(Branch(), CRITIQUE_QUESTION, partner.speaker.critique()))
        for question, answer in drill(judgement, rng, N_CHOICES if letters else 1):
            if letters and OPTION_LINE.search(question):
                found.append(self.choose(question, answer))
            else:
                found.append(self.say(Branch(), question, answer, weight=SHORT_WEIGHT))
        for _ in range(2):
            branch = Branch()
            for question, answer in conversation(judgement, rng):
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
    n_prefix: int
    n_image: int
    judgements: tuple[Tensor, Tensor, Tensor]
    """Quality, margins and looks."""


def collate(
    rows: list[list[Branch]], prefix: list[int], n_image: int, judgements: tuple[Tensor, Tensor, Tensor]
) -> Batch:
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
    return Batch(ids, positions, segment, targets, weights, scores, n_prefix, n_image, judgements)


def block_mask(segment: Tensor) -> Tensor:
    """Return bool [n, 1, length, length], true where a row may look: back into the prefix and its own branch."""
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    same = segment[:, :, None] == segment[:, None, :]
    return ((same | (segment[:, None, :] == 0)) & causal)[:, None]


def loss_of(model: LanguageModel, batch: Batch, label_tokens: list[int]) -> Tensor:
    """Cross-entropy of the answers, and of the score labels against their distributions."""
    llama = model.llama.model
    embeds = llama.embed_tokens(batch.ids)
    image = model.code(*batch.judgements).unsqueeze(1).expand(-1, batch.n_image, -1)
    embeds = torch.cat([embeds[:, : batch.n_prefix], image, embeds[:, batch.n_prefix + batch.n_image :]], 1)
    mask = torch.zeros(1).masked_fill(~block_mask(batch.segment), torch.finfo(torch.float32).min)
    hidden = llama(inputs_embeds=embeds, attention_mask=mask, position_ids=batch.positions, use_cache=False)[0]
    chosen = batch.targets != IGNORED
    each = nn.functional.cross_entropy(model.llama.lm_head(hidden[chosen]), batch.targets[chosen], reduction="none")
    loss = (each * batch.weights[chosen]).mean()
    rows, columns, targets = zip(*batch.scores, strict=True)
    logits = model.llama.lm_head(hidden[list(rows), list(columns)]).log_softmax(-1)[:, label_tokens]
    target = torch.tensor(targets)
    return loss + SCORE_WEIGHT * (target * (target.clamp(min=1e-6).log() - logits)).sum(-1).mean()


def draw(texts: Texts, rng: np.random.Generator, *, rows: int, n_image: int, letters: bool = False) -> list[Batch]:
    """Return talk about drawn judgements in batches of ROWS_TOGETHER, of similar length so that little is padded."""
    judgements = [draw_judgement(rng) for _ in range(rows)]
    talk = [(texts.branches(j, rng, letters=letters), j) for j in judgements]
    talk.sort(key=lambda pair: sum(len(branch.ids) for branch in pair[0]))
    parts = [talk[k : k + ROWS_TOGETHER] for k in range(0, rows, ROWS_TOGETHER)]
    return [collate([b for b, _ in part], texts.prefix, n_image, as_tensors([j for _, j in part])) for part in parts]


def optimizer_of(model: LanguageModel, rate: float) -> Optimizers:
    """Return what trains a model: Muon for the matrices inside its layers."""
    hidden = [p for p in model.llama.model.layers.parameters() if p.dim() == 2]
    known = {id(p) for p in hidden}
    return Optimizers(hidden, [p for p in model.parameters() if id(p) not in known], rate)


def share_of_rate(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: it rises, and falls in a line to nothing at the end."""
    return min(1, (step + 1) / RISES_FOR) * (steps - step) / steps


def train_language(
    model: LanguageModel,
    texts: Texts,
    checkpoint: Path,
    *,
    steps: int,
    rate: float = 3e-3,
    rows: int = 8,
    seed: int = 0,
) -> None:
    """Train for `steps` of so many `rows`, shared among the processes; resumed from `checkpoint` if it is there."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer_of(model, rate)
    step = resume(checkpoint, model, optimizer)
    start, running = time.monotonic(), 0.0
    while step < steps:
        n_image = int(np.random.default_rng((seed, 4, step)).choice(IMAGE_TOKENS, p=HOW_OFTEN))
        rng = np.random.default_rng((seed, 3, step, rank()))
        set_rate(optimizer, rate, share_of_rate(step, steps))
        batches = draw(texts, rng, rows=rows // n_together(), n_image=n_image, letters=step >= LETTERS_FROM)
        optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            loss = loss_of(model, batch, texts.label_tokens) / len(batches)
            loss.backward()
            total += float(loss.detach())
        share_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        running = 0.97 * running + 0.03 * total if running else total
        if step % 20 == 0 and rank() == 0:
            print(f"language step {step} of {steps} ({time.monotonic() - start:.0f} s) {running:.4f}", flush=True)
        if step % SAVE_EVERY == 0 or step == steps:
            save(checkpoint, model, optimizer, step)
