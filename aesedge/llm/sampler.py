"""Sample the next token with llama.cpp's sampler chain, constrained by a grammar if there is one."""

from __future__ import annotations

import ctypes
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aesedge.errors import InferenceError
from aesedge.llm import binding
from aesedge.system.bounds import check_real, check_whole
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from aesedge.llm.context import Context
    from aesedge.llm.grammar_state import GrammarState

_MOST_SEED = 2**32 - 2  # the number above is llama.cpp's sign for drawing one
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, per call."""

    temperature: float = 0.0
    """0 takes the likeliest token always; higher is more varied (0.2 is LLaVA's own)."""
    top_k: int = 40
    """Choose among the k likeliest tokens; 0 is all."""
    top_p: float = 0.95
    """Choose among the likeliest tokens that make up this probability; 1 is all."""
    min_p: float = 0.05
    """Leave out tokens less likely than this share of the likeliest; 0 is none."""
    seed: int | None = None
    """Same seed, same text; None draws one. Without meaning at temperature 0."""

    def __post_init__(self) -> None:
        check_real("temperature", self.temperature, 0, 10)
        check_real("top_p", self.top_p, 0, 1, open_below=True)
        check_real("min_p", self.min_p, 0, 1)
        check_whole("top_k", self.top_k, 0, 2**31 - 1)
        if self.seed is not None:
            check_whole("seed", self.seed, 0, _MOST_SEED)


class Step(NamedTuple):
    """What comes next in an answer."""

    tokens: list[int]
    """Tokens to append, in this order: one that was chosen, and those which no choice is left about."""
    ended: bool
    """Whether the answer ends with them; then none of them needs to be decoded."""


class Sampler(Closing):
    """The sampler chain of one sequence.

    Token by token: call :meth:`sample` after each decode. With forced text in larger steps: call :meth:`begin` before
    the prompt is prefilled, append its tokens to the prompt, then call :meth:`step` after each decode until one ended.

    Args:
        sampling: how tokens are chosen.
        grammar: what the answer may look like; closed together with the sampler.
        forces: whether steps hold the tokens too which no choice is left about; without, each is a step of its own.
    """

    def __init__(self, sampling: Sampling, grammar: GrammarState | None = None, *, forces: bool = True) -> None:
        self._forces = forces
        lib = self._lib = binding.load()
        self._grammar = grammar
        self._chain: Any = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        self._greedy = sampling.temperature == 0
        if self._greedy:
            self._add(lib.llama_sampler_init_greedy())
            return
        if sampling.top_k:
            self._add(lib.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            self._add(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p:
            self._add(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add(lib.llama_sampler_init_temp(sampling.temperature))
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(31)
        self._add(lib.llama_sampler_init_dist(seed))

    def _add(self, link: Any) -> None:
        self._lib.llama_sampler_chain_add(self._chain, link)  # the chain owns its links from now on

    def begin(self) -> Step:
        """Return the tokens that the grammar forces first; they can be prefilled together with the prompt."""
        return Step([], ended=False) if self._grammar is None else self._followed([])

    def step(self, context: Context, row: int) -> Step:
        """Sample a token from the logits of the last batch, and add the tokens that are forced after it."""
        token = self.sample(context, row)
        if context.model.is_end(token):
            return Step([], ended=True)
        return Step([token], ended=False) if self._grammar is None else self._followed([token])

    def _followed(self, tokens: list[int]) -> Step:
        assert self._grammar is not None  # noqa: S101 (for the type checker; both callers have looked)
        tokens = tokens + (self._grammar.forced() if self._forces else [])
        return Step(tokens, ended=self._grammar.is_over)

    def sample(self, context: Context, row: int) -> int:
        """Return a token sampled from the logits after token ``row`` of the last batch; -1 is the last one.

        With a grammar it is an end token where nothing else is allowed.
        """
        logits = context.logits(row)
        context.model.check_logits(logits)  # llama.cpp's chain ends the process over them
        if self._grammar is None and self._greedy:
            return int(logits.argmax())
        if self._grammar is None:
            return int(self._lib.llama_sampler_sample(self._chain, context.handle, row))
        token = self._choose(self._grammar, logits)
        self._grammar.accept([token])
        return token

    def _choose(self, grammar: GrammarState, logits: npt.NDArray[np.float32]) -> int:
        allowed = grammar.allowed()
        if not len(allowed):
            return min(grammar.vocabulary.ends)
        candidates = np.zeros(len(allowed), _TOKEN_DATA)
        candidates["id"], candidates["logit"] = allowed, logits[allowed]
        data = ctypes.cast(candidates.ctypes.data, self._lib.llama_token_data_p)
        array = self._lib.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)
        self._lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        if not 0 <= array.selected < array.size:
            raise InferenceError("llama.cpp chose no token")
        token = int(candidates["id"][array.selected])
        self._lib.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        """Free the chain and the grammar's state. Closing twice does nothing."""
        chain, self._chain = self._chain, None
        if chain:
            self._lib.llama_sampler_free(chain)
        if self._grammar is not None:
            self._grammar.close()
