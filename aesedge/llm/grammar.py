"""What an answer may look like: GBNF text, or a JSON schema made into it, checked; knows no model and no tokens.

llama.cpp trusts its grammars: there are some that end the process, and some that keep it busy for ever. So a grammar
is read here first (``gbnf``), refused where it could end the process (``grammar_rules``), and the work that it makes
is bounded (``grammar_cost``) and followed (``grammar_stacks``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aesedge.errors import UsageError
from aesedge.llm import binding
from aesedge.llm.gbnf import ROOT, SPACED_ROOT, GbnfReader
from aesedge.llm.grammar_rules import Rules
from aesedge.llm.grammar_stacks import Elements

if TYPE_CHECKING:
    from collections.abc import Mapping


class Grammar:
    """A checked grammar, for any model and any number of answers."""

    def __init__(self, text: str, elements: Elements) -> None:
        self.text = text
        """GBNF, with a rule ``root``, and beside it one that puts a space before it."""
        self.elements = elements

    @classmethod
    def from_gbnf(cls, text: str) -> Grammar:
        """Read GBNF, llama.cpp's notation; the rule ``root`` is the answer.

        Raises:
            UsageError: it cannot be read, or nothing can be generated from it. The message says where and why.
        """
        elements = Elements(Rules(GbnfReader(text).rules))
        text = f'{text}\n{SPACED_ROOT} ::= " " {ROOT}\n'
        lib = binding.load()
        binding.clear_log()
        parsed = lib.llama_sampler_init_grammar(None, text.encode(), ROOT.encode())
        if not parsed:
            raise UsageError(f"llama.cpp refuses the grammar: {binding.last_complaint() or 'no reason given'}")
        lib.llama_sampler_free(parsed)
        return cls(text, elements)

    @classmethod
    def from_json_schema(cls, schema: Mapping[str, Any] | str) -> Grammar:
        """Make the grammar of the JSON texts that fit a schema, without white space between their parts.

        Args:
            schema: a JSON schema, as a mapping or as JSON text. A keyword that cannot be kept to is refused, not
                passed over.

        Raises:
            UsageError: the schema is broken, or asks for something that cannot be kept to.
        """
        from aesedge.llm.json_schema import gbnf_of

        return cls.from_gbnf(gbnf_of(schema))
