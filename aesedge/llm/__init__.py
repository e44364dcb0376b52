"""The language model on llama.cpp, through its low-level C API; knows tokens, embeddings and sequences, not photos.

``binding`` imports llama-cpp-python, ``model`` holds the weights, ``context`` the KV cache (``cells`` counts it),
``sampler`` chooses tokens, ``text`` makes whole characters, ``interrupt`` lets Ctrl-C through. What an answer may look
like is ``grammar``: ``gbnf`` and ``json_schema`` read it, ``grammar_rules`` refuses what would end the process,
``grammar_cost`` and ``grammar_stacks`` what would not end; ``grammar_state`` follows an answer in the texts of tokens,
which are ``grammar_pieces``. ``peer`` is llama.cpp without all this, to compare with.
"""

from aesedge.llm.context import Context
from aesedge.llm.grammar import Grammar
from aesedge.llm.grammar_state import GrammarState
from aesedge.llm.model import LanguageModel
from aesedge.llm.sampler import Sampler, Sampling, Step

__all__ = ["Context", "Grammar", "GrammarState", "LanguageModel", "Sampler", "Sampling", "Step"]
