"""The language model on llama.cpp, through its low-level C API; knows tokens, embeddings and sequences, not photos.

``binding`` imports llama-cpp-python, ``model`` holds the weights, ``context`` the KV cache (``cells`` counts it),
``grammar`` says what an answer may look like, ``sampler`` chooses tokens, ``generate`` loops and streams, ``text``
makes whole characters, ``interrupt`` lets Ctrl-C through.
"""

from aesedge.llm.context import Context
from aesedge.llm.generate import Generation
from aesedge.llm.grammar import Grammar
from aesedge.llm.model import LanguageModel
from aesedge.llm.sampler import GrammarState, Sampler, Sampling, Step

__all__ = ["Context", "Generation", "Grammar", "GrammarState", "LanguageModel", "Sampler", "Sampling", "Step"]
