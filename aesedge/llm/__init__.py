"""The language model on llama.cpp, through its low-level C API; knows tokens, embeddings and sequences, not photos.

``binding`` imports llama-cpp-python, ``model`` holds the weights, ``context`` the KV cache (``cells`` counts it),
``sampler`` chooses tokens, ``generate`` loops and streams, ``text`` makes whole characters, ``interrupt`` lets Ctrl-C
through. What an answer may look like is ``grammar``: ``gbnf`` and ``json_schema`` read it, ``grammar_rules`` refuses
what would end the process, ``grammar_cost`` and ``grammar_stacks`` what would not end, and ``grammar_state`` follows
an answer in the tokens' texts, which are ``grammar_pieces``.
"""

from aesedge.llm.context import Context
from aesedge.llm.generate import Generation
from aesedge.llm.grammar import Grammar
from aesedge.llm.grammar_state import GrammarState
from aesedge.llm.model import LanguageModel
from aesedge.llm.sampler import Sampler, Sampling, Step

__all__ = ["Context", "Generation", "Grammar", "GrammarState", "LanguageModel", "Sampler", "Sampling", "Step"]
