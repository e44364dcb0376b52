"""Define the questions of the parity proof and read scores from the answers' logits.

Teacher forcing: the bundle's most precise language file generates a continuation, and every other model computes, in
one pass, its logits at each position of it. Up to the first difference that is what it would generate by itself; after
it the distributions are still comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aesedge.engine.rating import label_tokens, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.bundle.manifest import RatingSpec
    from aesedge.engine.rating import LabelTokens
    from aesedge.llm.prompt import PromptTemplate

    from .stages import FloatArray

Share = float
"""How much of a step is done, 0..1."""


@dataclass(frozen=True, eq=False)
class ForcedSequence:
    """A prompt with an image in it, and a given continuation."""

    before: list[int]
    """Token ids in front of the image, BOS among them."""
    rows: FloatArray
    """Image embeddings, float32 [n_image_tokens, n_embd]. Sequences of one photo hold the same array object."""
    after: list[int]
    """Token ids behind the image, up to where the answer begins."""
    continuation: list[int]
    """Token ids of the answer."""


class LogitSource(Protocol):
    """A language model that can be asked about given sequences."""

    description: str

    def logits(
        self, sequences: Sequence[ForcedSequence], progress: Callable[[Share], None] | None = None
    ) -> list[FloatArray]:
        """Return for each sequence the logits that follow its prompt and each of its continuation's tokens.

        Returns:
            float32 [1 + len(continuation), n_vocab] for each; row 0 is the first token of the answer.
        """


@dataclass(frozen=True)
class Prompts:
    """The rating question and the critique question of a bundle, in tokens."""

    texts: dict[str, list[int]]
    """Every piece of text to its ids, for comparison between vocabularies."""
    before: list[int]
    questions: tuple[list[int], list[int]]
    """Token ids behind the image: of the rating question and of the critique question."""
    labels: LabelTokens

    def answers(self, rows: FloatArray, continuations: Sequence[list[int]]) -> list[ForcedSequence]:
        """Return both questions with their continuations."""
        pairs = zip(self.questions, continuations, strict=True)
        return [ForcedSequence(self.before, rows, after, continuation) for after, continuation in pairs]

    def beginnings(self, rows: FloatArray) -> list[ForcedSequence]:
        """Return the rating question with the beginning of each label that is longer than one token."""
        return [ForcedSequence(self.before, rows, self.questions[0], list(p)) for p in self._longest_prefixes()]

    def score(self, first: FloatArray, beginnings: Sequence[FloatArray]) -> float:
        """Read the score, 0..10.

        Args:
            first: logits where the answer to the rating question begins, float32 [n_vocab].
            beginnings: logits of the sequences of :meth:`beginnings`.
        """
        after = {}
        for prefix, logits in zip(self._longest_prefixes(), beginnings, strict=True):
            after.update({prefix[: n + 1]: logits[n + 1] for n in range(len(prefix))})
        return rate(self.labels, first, after).score

    def _longest_prefixes(self) -> list[tuple[int, ...]]:
        prefixes = self.labels.prefixes
        return [p for p in prefixes if not any(p != other and other[: len(p)] == p for other in prefixes)]


def read_prompts(
    template: PromptTemplate, critique: str, rating: RatingSpec, bos: int, tokenize: Callable[[str], list[int]]
) -> Prompts:
    """Turn a bundle's questions into tokens."""
    questions = [template.after_image(question) for question in (rating.question, critique)]
    texts = [template.before_image, *questions, *(a for answers in rating.labels.values() for a in answers)]
    ids = {text: tokenize(text) for text in texts}
    return Prompts(
        texts=ids,
        before=[bos, *ids[template.before_image]],
        questions=(ids[questions[0]], ids[questions[1]]),
        labels=label_tokens(rating.labels, rating.weights, tokenize),
    )
