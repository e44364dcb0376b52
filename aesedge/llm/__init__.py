"""The language model on llama.cpp, through its low-level C API; knows tokens, embeddings and sequences, not photos.

``binding`` imports llama-cpp-python, ``model`` holds the weights, ``context`` the KV cache (``cells`` counts it),
``sampler`` chooses tokens, ``text`` makes whole characters, ``interrupt`` lets Ctrl-C through. What an answer may look
like is ``grammar``: ``gbnf`` reads GBNF, ``lark`` writes it for llguidance, ``json_schema`` prepares schemas;
``grammar_state`` follows an answer. ``peer`` is llama.cpp without all this, to compare with.
"""

from aesedge.llm.context import Context
from aesedge.llm.grammar import Grammar
from aesedge.llm.grammar_state import GrammarState
from aesedge.llm.model import LanguageModel
from aesedge.llm.sampler import Sampler, Sampling, Step

__all__ = ["Context", "Grammar", "GrammarState", "LanguageModel", "Sampler", "Sampling", "Step"]
