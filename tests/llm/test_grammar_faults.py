"""Grammars that are wrong, slow or hostile: refused with the reason, or bounded in time; nothing ends the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from grammar_models import FULL_VOCABULARY, Noise

from aesedge.errors import UsageError
from aesedge.llm import Grammar, GrammarState, LanguageModel, Sampler, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW_GRAMMARS = {
    "overlapping": 'root ::= x{15} "z"\nx ::= ' + " | ".join(['"x"', '"xx"', '"xxx"', "[a-z]", "[x-z]"] * 6),
    "a hundred times the same": 'root ::= x{15} "z"\nx ::= ' + " | ".join(["[a-z]"] * 100),
    "thousands of times the same": 'root ::= x{15} "z"\nx ::= ' + " | ".join(["[a-z]"] * 5000),
    "Catalan": 'root ::= x root "a" | x root "b" | x\nx ::= "x"',
    "nested repetitions": 'root ::= (((([a-z]+ " "?)+ ","?)+ ";"?)+ "."?)+',
    "nothing or not": "root ::= " + " ".join(["b?"] * 300) + "\nb ::= [b-z]",
    "nothing or not, in itself": "root ::= " + " ".join(["b?"] * 300) + ' ("(" root ")")?\nb ::= [b-z]',
    "a thousand times or not": 'root ::= ("a"?){1000} "z"',
    "a billion times or not": 'root ::= ((("a"{1,1000}){0,1000}){0,1000}) "z"',
    "itself twice or thrice": 'root ::= root root root | root root | [a-z] | ""',
    "words in words": 'root ::= root root | root root root | "a" | "aa" | "aaa" | [a-z]',
    "a long tail": 'root ::= [ab]* "a" [ab]{2000}',
    "to the right": 'root ::= [a-z] root | "."',
    "two to the sixtieth": "root ::= a0\n"
    + "".join(f'a{i} ::= a{i + 1} "x" | a{i + 1} "y"\n' for i in range(60))
    + 'a60 ::= "x"',
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


def text_of(model: LanguageModel, grammar: Grammar, *, most: int = 200, seed: int = 0) -> tuple[str, bool]:
    """Return a text of a model that finds all tokens likely, and whether it ended."""
    noise: Any = Noise(model, seed)
    tokens: list[int] = []
    with Sampler(Sampling(), GrammarState(model, grammar)) as chooser:
        step = chooser.begin()
        tokens += step.tokens
        while not step.ended and len(tokens) < most:
            step = chooser.step(noise, 0)
            tokens += step.tokens
    return b"".join(map(model.piece, tokens)).decode("utf-8", "replace").removeprefix(" "), step.ended


@pytest.mark.parametrize("name", SLOW_GRAMMARS)
def test_no_token_takes_long(long_words: LanguageModel, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    took = []
    for method in ("allowed", "accept", "forced", "__init__"):
        monkeypatch.setattr(GrammarState, method, timed(getattr(GrammarState, method), took))
    try:
        text_of(long_words, Grammar.from_gbnf(SLOW_GRAMMARS[name]), most=60)
    except UsageError as error:
        assert "ambiguous" in str(error)  # noqa: PT017 (it may be raised anywhere, or not at all)
    assert max(took) < 2


def timed(call: Any, took: list[float]) -> Any:
    def run(*args: Any) -> Any:
        started = time.thread_time()
        try:
            return call(*args)
        finally:
            took.append(time.thread_time() - started)

    return run


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
    "root ::= a\na ::= b\nb ::= a": "never ends",
    'root ::= "x" b\nb ::= n b\nn ::= m\nm ::= ""': "never ends",
    'root ::= "a" root': "never ends",
    'root ::= "a"\nroot ::= "b"': "there already",
    'root = "a"': "name and '::='",
    "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000: "groups inside",
    "root ::= a0\n" + "".join(f"a{i} ::= a{i + 1}\n" for i in range(5000)) + 'a5000 ::= "x"': "inside each other",
    "root ::= a0\n" + "".join(f"a{i} ::= a{i + 1} root?\n" for i in range(5000)) + 'a5000 ::= "x"': "inside each other",
    'root ::= "y" big | "x"\nbig ::= c c\nc ::= d d\nd ::= ("abcdefgh"{100}){100}': "50000 characters",
    "root ::= [^\\x00-\\U0010FFFF]": "never ends",
    'root ::= "' + "a" * 1_000_000 + '"': "1000000 are the most",
}


@pytest.mark.parametrize("text", BAD_GRAMMARS, ids=range(len(BAD_GRAMMARS)))
def test_bad_grammars_are_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UsageError, match=BAD_GRAMMARS[text]):
        Grammar.from_gbnf(text)


def chain(n: int, **beside: Any) -> dict[str, Any]:
    """Return definitions that refer to one another."""
    links = {f"a{i}": {"properties": {"n": {"$ref": f"#/$defs/a{i + 1}"}}, **beside} for i in range(n)}
    return {"$defs": {**links, f"a{n}": {"type": "string"}}, "$ref": "#/$defs/a0"}


BAD_SCHEMAS: list[tuple[Any, str]] = [
    ("{", "no JSON"),
    ([], "is an object"),
    ({"type": object}, "no JSON"),
    ({"const": float("nan")}, "no JSON"),
    ('{"enum": ["\\ud800"]}', "surrogate"),
    ('{"items":' * 5000 + "{}" + "}" * 5000, "deep"),
    ('{"enum":[' + "[" * 100_000 + "]" * 100_000 + "]}", "deep"),
    ('{"items":' * 110 + "{}" + "}" * 110, "100 schemas"),
    (chain(5000), "100 schemas"),
    (json.dumps({"const": "x" * 1_000_000}), "1000000 are the most"),
    ({"const": "x" * 900_000}, "50000 characters"),
    ({"type": "word"}, "word"),
    ({"type": {}}, "type"),
    ({"blah": 3}, "blah"),
    ({"x-guidance": {"lenient": True}}, "x-guidance"),
    ({"properties": {"a": {"items": {"wrong": 1}}}}, "#/properties/a/items: wrong"),
    *(({key: {}}, key) for key in ("not", "if", "contains", "propertyNames", "dependentSchemas", "dynamicRef")),
    *(({key: True}, key) for key in ("uniqueItems", "unevaluatedProperties", "recursiveAnchor", "minContains")),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
    ({"type": "string", "maxLength": "3"}, "maxLength"),
    ({"type": "string", "maxLength": -1}, "maxLength"),
    ({"type": "array", "minItems": 10**9}, "minItems"),
    ({"type": "array", "items": {}, "minItems": 3, "maxItems": 2}, "minItems"),
    ({"type": "array", "minItems": 1.5}, "minItems"),
    ({"type": "array", "items": [{}]}, "#/items"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
    ({"type": "string", "pattern": "^(a$"}, "unclosed"),
    ({"type": "string", "pattern": "^*$"}, "lookarounds"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ({"type": "string", "pattern": "(" * 100_000 + "a" + ")" * 100_000}, "regex"),
    ({"type": "string", "pattern": 5}, "pattern"),
    ({"type": "string", "format": "blah"}, "blah"),
    ({"$ref": "https://example.com/schema"}, "not inside"),
    ({"$ref": "#word"}, "not inside"),
    ({"$ref": 5}, "not inside"),
    ({"$ref": "#/$defs/missing"}, "missing"),
    ({"$defs": {"a": {"$id": "x"}}, "$ref": "#/$defs/a"}, "\\$id"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "allows no text"),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "allows no text"),
    ({"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": "object"}, "leaves no choice"),
    ({"enum": []}, "anyOf is empty"),
    ({"anyOf": 5}, "anyOf"),
    ({"allOf": []}, "allOf"),
    ({"properties": {"a": 1}}, "#/properties/a"),
    ({"properties": []}, "properties"),
    ({"required": 5}, "required"),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "nsatisfiable"),
]


@pytest.mark.parametrize(("schema", "reason"), BAD_SCHEMAS, ids=range(len(BAD_SCHEMAS)))
def test_schemas_that_cannot_be_kept_to_are_refused(schema: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Grammar.from_json_schema(schema)


SCHEMAS: list[dict[str, Any]] = [
    {"type": "string", "pattern": '^["\\\\a]{3}$'},
    {"type": "string", "pattern": "^([a-z]+b)+[0-9]{2}$", "maxLength": 30},
    {"type": "string", "minLength": 5, "maxLength": 8},
    *({"type": "string", "format": name} for name in ("date", "time", "date-time", "uuid", "ipv4")),
    {"type": "integer", "minimum": -3, "exclusiveMaximum": 12, "multipleOf": 5},
    {"type": "number", "minimum": 0.25, "maximum": 0.5},
    {"enum": ['a "quote"', "é漢😀", "back\\slash", 7, None, [1, {"x": "y"}]]},
    {"type": ["string", "null"], "maxLength": 3},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"const": 3}], "items": False},
    {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 3},
    {"anyOf": [{"type": "object", "properties": {"a": {"const": 1}}}, {"type": "null"}]},
    {"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"b": {"enum": [1]}}, "required": ["b"]}],
     "$defs": {"a": {"type": "object", "properties": {"a": {"const": 2}}, "required": ["a"]}}},
    {"type": "object", "properties": {"a~/b c": {"type": "null"}, "z": {"$ref": "#/properties/a~0~1b%20c"}},
     "required": ["z"]},
    {"type": "object", "additionalProperties": {"enum": [1, 2]}, "minProperties": 1, "maxProperties": 2},
    {"type": "object", "patternProperties": {"^x[0-9]$": {"const": 0}}, "additionalProperties": False},
    {"type": "object", "properties": {f"p{i}": {"const": i} for i in range(300)}, "required": ["p299"]},
    {"enum": [f"value {i} {i * 7}" for i in range(1000)]},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_answers_fit_their_schema(llm: LanguageModel, schema: dict[str, Any]) -> None:
    grammar = Grammar.from_json_schema(schema)
    n_ended = 0
    for seed in range(6):
        text, ended = text_of(llm, grammar, most=4000, seed=seed)
        if ended:
            jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        n_ended += ended
    assert n_ended > 1


def test_objects_have_no_properties_that_are_not_named(llm: LanguageModel) -> None:
    grammar = Grammar.from_json_schema({"type": "object", "properties": {"a": {"properties": {"b": {"const": 1}}}}})
    for seed in range(20):
        text, _ = text_of(llm, grammar, most=400, seed=seed)
        assert text in {"{}", '{"a":{}}', '{"a":{"b":1}}'}


HOSTILE = """
import sys
from pathlib import Path
from aesedge.errors import UsageError
from aesedge.llm import Grammar, GrammarState, LanguageModel
from test_grammar_faults import BAD_GRAMMARS, BAD_SCHEMAS, chain, text_of

def refused(call, *args):
    try:
        call(*args)
    except UsageError:
        return
    raise SystemExit(f"not refused: {str(args)[:200]}")

with LanguageModel(Path(sys.argv[1])) as model:
    for text in BAD_GRAMMARS:
        refused(Grammar.from_gbnf, text)
    for schema, _ in BAD_SCHEMAS:
        refused(Grammar.from_json_schema, schema)
    state = GrammarState(model, Grammar.from_gbnf('root ::= "ab"'))
    for token in (-1, model.n_vocab, 10**9, -(2**31), 2**40, model.bos, 0, 3, 3 + 0xFF, model.tokenize("b")[-1]):
        refused(state.accept, [token])
    for text in ('("a"*)*', '("a"?)* "b"', '("a" | "")* [b-c]', '("a"{100}){100} | "x"', '""', '(""){3}',
                 '"a"{0}', '("a" | "ab" | "abc")+ "."', ".{5}", "(" * 390 + '"a"' + ")" * 390,
                 "(" * 390 + '"a" root?' + ")" * 390,
                 "a0\\n" + "".join(f"a{i} ::= a{i + 1}\\n" for i in range(390)) + 'a390 ::= "x"',
                 "b{500}\\nb ::= [a-z]?", '"(" root ws | "x"\\nws ::= " "*'):
        text_of(model, Grammar.from_gbnf("root ::= " + text))
    for schema in ({"type": "string", "pattern": "(((a{0,1000}){0,1000}){0,1000}){0,1000}"}, chain(40), {},
                   {"items": {}}, {"type": "string", "pattern": "^(a|aa)+$"},
                   {"type": "string", "pattern": "^(.*a){40}$"},
                   {"type": "array", "minItems": 2000, "items": {"type": "array", "minItems": 2000}}):
        try:
            text_of(model, Grammar.from_json_schema(schema))
        except UsageError as error:
            print("refused", error)
print("survived")
"""


def test_nothing_ends_the_process(gguf_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(gguf_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["survived"]), done.stdout + done.stderr[-2000:]


def test_a_panic_is_an_error(llm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> list[int]:
        raise RuntimeError

    state = GrammarState(llm, Grammar.from_gbnf('root ::= "a long word" [ab]'))
    monkeypatch.setattr(type(state.vocabulary), "__call__", broken)  # llguidance calls it, and unwraps what it raises
    with pytest.raises(UsageError, match="grammar"):
        state.forced()


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
        orphan.accept([5])
    orphan.close()
    with pytest.raises(UsageError, match="closed"):
        GrammarState(model, grammar)
