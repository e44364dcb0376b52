"""Grammars that are wrong, slow or hostile: refused with the reason, read as llama.cpp reads them; no process ends."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from grammar_models import FULL_VOCABULARY, Noise

from aesedge.errors import UsageError
from aesedge.llm import Grammar, GrammarState, LanguageModel, Sampler, Sampling
from aesedge.llm.binding import load

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_too_ambiguous_a_grammar_is_stopped(llm: LanguageModel) -> None:
    state = GrammarState(llm, Grammar.from_gbnf('root ::= x root "a" | x root "b" | x\nx ::= "x"'), spaced=False)
    token = state.pieces.by_byte[ord("x")]

    def accept_many() -> None:
        for _ in range(40):
            state.accept(token)

    with pytest.raises(UsageError, match="ambiguous"):
        accept_many()
    state.close()


SLOW_GRAMMARS = {
    "overlapping": 'root ::= x{15} "z"\nx ::= ' + " | ".join(['"x"', '"xx"', '"xxx"', "[a-z]", "[x-z]"] * 6),
    "a hundred times the same": 'root ::= x{15} "z"\nx ::= ' + " | ".join(["[a-z]"] * 100),
    "thousands of times the same": 'root ::= x{15} "z"\nx ::= ' + " | ".join(["[a-z]"] * 5000),
    "Catalan": 'root ::= x root "a" | x root "b" | x\nx ::= "x"',
    "nested repetitions": 'root ::= (((([a-z]+ " "?)+ ","?)+ ";"?)+ "."?)+',
    "nothing or not": "root ::= " + " ".join(["b?"] * 300) + "\nb ::= [b-z]",
    "spaces": 'root ::= ws ws ws ws ws ws ws ws "x"\nws ::= [ \\t]*',
    "a thousand": "root ::= " + " | ".join(f'"{i}"' for i in range(1000)),
}


@pytest.fixture(scope="session")
def long_words(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LanguageModel]:
    """The vocabulary of Llama where it is here: pieces of up to 16 letters, for whose readings time multiplies."""
    if not FULL_VOCABULARY.is_file():
        yield request.getfixturevalue("llm")
        return
    with LanguageModel(FULL_VOCABULARY, vocab_only=True) as model:
        yield model


@pytest.mark.parametrize("name", SLOW_GRAMMARS)
def test_no_call_of_llama_cpp_takes_long(long_words: LanguageModel, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lib, took = load(), []

    def timed(call: Any) -> Any:
        def run(*args: Any) -> Any:
            started = time.thread_time()
            try:
                return call(*args)
            finally:
                took.append(time.thread_time() - started)

        return run

    for function in ("llama_sampler_apply", "llama_sampler_accept", "llama_sampler_init_grammar"):
        monkeypatch.setattr(lib, function, timed(getattr(lib, function)))
    noise: Any = Noise(long_words)
    try:
        state = GrammarState(long_words, Grammar.from_gbnf(SLOW_GRAMMARS[name]), spaced=False)
        with Sampler(Sampling(), state) as chooser:
            step, n = chooser.begin(), 0
            while not step.ended and n < 25:
                step, n = chooser.step(noise, 0), n + 1
    except UsageError as error:
        assert "ambiguous" in str(error)  # noqa: PT017 (it may be raised anywhere, or not at all)
    assert max(took) < 2


def random_grammar(rng: random.Random) -> str:
    def symbol(depth: int) -> str:
        kind = rng.randrange(6 if depth else 3)
        if kind < 2:
            return rng.choice(['"a"', '"ab"', "[ab]", "[^b]", '"ba"', "[a-c]"])
        if kind == 2:
            return rng.choice(["x", "y", "z"])
        inner = " ".join(symbol(depth - 1) for _ in range(rng.randint(1, 3)))
        other = " ".join(symbol(depth - 1) for _ in range(rng.randint(1, 2)))
        return f"({inner} | {other})" + rng.choice(["", "*", "+", "?", "{2,5}", "{3}"])

    body = {name: " ".join(symbol(2) for _ in range(3)) for name in ("root", "x", "y")}
    return "\n".join(f"{name} ::= {text}" for name, text in body.items()) + '\nz ::= "c" | "ca"\n'


@pytest.mark.parametrize("seed", range(60))
def test_stacks_allow_what_llama_cpp_allows(llm: LanguageModel, seed: int) -> None:
    rng = random.Random(seed)
    try:
        state = GrammarState(llm, Grammar.from_gbnf(random_grammar(rng)), spaced=False)
    except UsageError:
        return
    letters = np.array([state.pieces.by_byte[byte] for byte in b"abcd."], np.int32)
    for _ in range(12):
        try:
            allowed = {llm.piece(int(token)) for token in state.allowed(letters)}
            ours = {c.encode() for c in "abcd." if state._stacks.after(state._now, ord(c))}
        except UsageError as error:
            assert "ambiguous" in str(error)  # noqa: PT017 (it may be raised anywhere, or not at all)
            break
        assert allowed == ours
        if not ours or state.is_over:
            break
        state.accept(state.pieces.by_byte[rng.choice(sorted(ours))[0]])
    state.close()


BAD_GRAMMARS = {
    "": "no rule 'root'",
    "# nothing": "no rule 'root'",
    'start ::= "a"': "no rule 'root'",
    "root ::= other": "does not have: other",
    'root ::= "a': "closing quote",
    "root ::= [a": "without its '\\]'",
    "root ::= []": "no characters",
    "root ::= [z-a]": "backwards",
    'root ::= ("a"': "not closed",
    'root ::= "a")': "without its '\\('",
    "root ::= my_rule": "no '_'",
    'root ::= "\\q"': "unknown escape",
    'root ::= "\\uD800"': "0xd800",
    'root ::= "\\x00"': "character 0x0",
    "root ::= [\\UFFFFFFFF]": "0xffffffff",
    'root ::= "a\0b"': "NUL",
    'root ::= "\udcff"': "surrogate",
    'root ::= * "a"': "nothing to repeat",
    'root ::= ""*': "nothing to repeat",
    'root ::= "a"{3,2}': "fewer than the least",
    'root ::= "a"{2001}': "2000 repetitions",
    'root ::= "a"{99999999999999999999999}': "a repetition is",
    'root ::= "' + "a" * 100 + '"{2000}': "too large",
    'root ::= "a" <[65]>': "tokens are not supported",
    'root ::= !<s> "a"': "tokens are not supported",
    'root ::= root "a" | "b"': "left recursion",
    'root ::= a root "z" | "x"\na ::= b\nb ::= "" | "y"': "left recursion",
    "root ::= a\na ::= b\nb ::= a": "never ends",
    'root ::= "x" b\nb ::= n b\nn ::= m\nm ::= ""': "never ends",
    'root ::= "a" root': "never ends",
    'root ::= "a"\nroot ::= "b"': "there already",
    "root ::= b{500}\nb ::= [a-z]?": "may be nothing",
    'root ::= "(" root ws | "x"\nws ::= " "*': "contains itself",
    'root = "a"': "name and '::='",
    "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000: "groups inside",
    "root ::= a0\n" + "".join(f"a{i} ::= a{i + 1}\n" for i in range(5000)) + 'a5000 ::= "x"': "ways",
    "root ::= a0\n" + "".join(f'a{i} ::= a{i + 1} "x" | a{i + 1} "y"\n' for i in range(60)) + 'a60 ::= "x"': "ways",
}


@pytest.mark.parametrize("text", BAD_GRAMMARS, ids=range(len(BAD_GRAMMARS)))
def test_bad_grammars_are_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UsageError, match=BAD_GRAMMARS[text]):
        Grammar.from_gbnf(text)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("{", "no JSON"),
        ([], "is an object"),
        ({"type": object}, "no JSON"),
        ({"type": "word"}, "word"),
        ({"type": "number", "minimum": 3}, "minimum"),
        ({"type": "integer", "minimum": 0, "maximum": 10**9}, "1000"),
        ({"type": "string", "maxLength": 10**9}, "maxLength"),
        ({"type": "string", "maxLength": "3"}, "maxLength"),
        ({"type": "array", "items": {}, "minItems": 3, "maxItems": 2}, "minItems"),
        ({"type": "array", "items": [{}]}, "#/items"),
        ({"type": "string", "pattern": "^[^a]$"}, "pattern"),
        ({"type": "string", "pattern": "^[ -~]$"}, "pattern"),
        ({"type": "string", "pattern": "abc"}, "pattern"),
        ({"type": "string", "pattern": "^a{1000000000}$"}, "repeats|large"),
        ({"type": "string", "pattern": "^(a$"}, "pattern"),
        ({"type": "string", "pattern": "^*$"}, "pattern"),
        ({"type": "string", "format": "email"}, "email"),
        ({"$ref": "https://example.com/schema"}, "not inside"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "never ends"),
        ({"allOf": [{}]}, "allOf"),
        ({"enum": []}, "enum"),
        ({"anyOf": 5}, "anyOf"),
        ({"properties": {"a": 1}}, "#/properties/a"),
        ({"properties": {"a": {"type": "null"}}, "required": ["b"]}, "required.*b"),
        ({"type": {}}, "schema"),
    ],
)
def test_schemas_that_cannot_be_kept_to_are_refused(schema: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Grammar.from_json_schema(schema)


HOSTILE = """
import sys
from pathlib import Path
from aesedge.errors import UsageError
from aesedge.llm import Context, Grammar, GrammarState, LanguageModel, Sampling
sys.path.insert(0, sys.argv[2])
from generation import Generation
from test_grammar_faults import BAD_GRAMMARS

with LanguageModel(Path(sys.argv[1])) as model, Context(model, n_ctx=512, n_seq_max=1, n_threads=1) as context:
    def refused(call, *args):
        try:
            call(*args)
        except UsageError:
            return
        raise SystemExit(f"not refused: {args}")

    for text in BAD_GRAMMARS:
        refused(Grammar.from_gbnf, text)
    state = GrammarState(model, Grammar.from_gbnf('root ::= "ab"'), spaced=False)
    for token in (-1, model.n_vocab, 10**9, -(2**31), model.bos, 0, 3, 3 + 0xFF, model.tokenize("b")[-1]):
        refused(state.accept, token)
    state.accept(model.tokenize("a")[-1])
    state.accept(model.tokenize("b")[-1])
    refused(state.accept, model.tokenize("b")[-1])
    assert list(state.allowed(state.pieces.tokens)) == [model.eos]
    state.accept(model.eos)
    state.accept(model.eos)
    state.close()
    state.close()
    refused(state.allowed, state.pieces.tokens)
    early = GrammarState(model, Grammar.from_gbnf('root ::= "ab"'), spaced=False)
    early.accept(model.eos)
    early.close()
    for text in ('("a"*)*', '("a"?)* "b"', '("a" | "")* [b-c]', '("a"{100}){100} | "x"', '""',
                 '[^\\\\x00-\\\\U0010FFFF]', '"a"{0}', '("a" | "ab" | "abc")+ "."',
                 ".{5}", "(" * 390 + '"a"' + ")" * 390,
                 "a0\\n" + "".join(f"a{i} ::= a{i + 1}\\n" for i in range(700)) + 'a700 ::= "x"'):
        for temperature in (0, 2):
            try:
                grammar = Grammar.from_gbnf("root ::= " + text)
            except UsageError as error:
                print("refused", text[:20], error)
                continue
            sampling = Sampling(temperature=temperature, top_k=0, seed=1)
            list(Generation(context, 0, [1], sampling=sampling, max_tokens=40, grammar=grammar))
            context.truncate(0, 0)
print("survived")
"""


def test_nothing_ends_the_process(gguf_path: Path) -> None:
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(gguf_path), folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["survived"]), done.stdout + done.stderr[-2000:]


def test_closed_states_and_models_are_refused(gguf_path: Path) -> None:
    grammar = Grammar.from_gbnf('root ::= "a"')
    with LanguageModel(gguf_path) as model:
        state = GrammarState(model, grammar)
        state.close()
        state.close()
        with pytest.raises(UsageError, match="closed"):
            state.forced()
        orphan = GrammarState(model, grammar)
    with pytest.raises(UsageError, match="closed"):
        orphan.accept(5)
    orphan.close()
    with pytest.raises(UsageError, match="closed"):
        GrammarState(model, grammar)
