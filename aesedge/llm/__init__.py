"""Run the language model on llama.cpp through its low-level C API.

``binding`` imports llama-cpp-python, ``model`` loads weights, ``context`` holds the KV cache (``kv_cells`` counts it),
``sampler`` samples tokens, ``text_stream`` turns them into text, ``prompt`` has the templates. Constrained output is
``grammar`` (``gbnf``, ``json_schema`` and ``lark`` translate it for llguidance) and ``grammar_state``. ``gpu_offload``,
``build_info``, ``limits`` and ``raw_timing`` are for planning and for benchmarks.
"""

from aesedge.llm.context import Context
from aesedge.llm.grammar import Grammar
from aesedge.llm.grammar_state import GrammarState
from aesedge.llm.model import LanguageModel
from aesedge.llm.sampler import Sampler, Sampling, Step

__all__ = ["Context", "Grammar", "GrammarState", "LanguageModel", "Sampler", "Sampling", "Step"]
