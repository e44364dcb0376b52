"""Laws of constrained answers on tiny models: what is allowed, what is forced, and where an answer ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny
from generation import Generation
from grammar_models import FULL_VOCABULARY, Noise

from aesedge.errors import InferenceError, UsageError
from aesedge.llm import Context, Grammar, GrammarState, LanguageModel, Sampler, Sampling, Step
from aesedge.llm.binding import load
from aesedge.llm.grammar_state import TokenVocabulary
from aesedge.llm.text_stream import TextStream

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIED = {"temperature": 3.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
REPORT = {
    "type": "object",
    "properties": {
        "composition": {"type": "string", "minLength": 2, "maxLength": 12},
        "score": {"type": "integer", "minimum": 0, "maximum": 10},
        "rating": {"enum": ["high", "medium", "low"]},
        "faults": {"type": "array", "items": {"enum": ["noise", "blur"]}, "maxItems": 2},
    },
    "required": ["composition", "score", "rating"],
}


def prompt(llm: LanguageModel) -> list[int]:
    return [llm.bos, *llm.tokenize("USER: the image ASSISTANT:")]


def answer(context: Context, grammar: Grammar, *, max_tokens: int = 200, **sampling: Any) -> Generation:
    return Generation(
        context,
        0,
        prompt(context.model),
        sampling=Sampling(**sampling),
        max_tokens=max_tokens,
        grammar=grammar,
    )


def text_of(context: Context, grammar: Grammar, **options: Any) -> str:
    text = "".join(answer(context, grammar, **options))
    context.truncate(0, 0)
    return text


def token_by_token(context: Context, grammar: Grammar, sampling: Sampling) -> str:
    model, stream, tokens, text = context.model, TextStream(), prompt(context.model), ""
    with Sampler(sampling, GrammarState(model, grammar)) as chooser:
        context.prefill_tokens(0, tokens)
        while not model.is_end(token := chooser.sample(context, -1)):
            text += stream.feed(model.piece(token))
            context.prefill_tokens(0, [token])
    context.truncate(0, 0)
    return text + stream.finish()


@pytest.fixture
def n_decodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Tokens of every llama_decode."""
    lib, sizes = load(), []
    decode = lib.llama_decode

    def counted(context: Any, batch: Any) -> int:
        sizes.append(batch.n_tokens)
        return int(decode(context, batch))

    monkeypatch.setattr(lib, "llama_decode", counted)
    return sizes


def test_choices(context: Context) -> None:
    grammar = Grammar.from_gbnf('root ::= "yes" | "no"')
    assert {text_of(context, grammar, seed=s, **VARIED) for s in range(20)} == {"yes", "no"}
    generation = answer(context, grammar)
    assert "".join(generation) in {"yes", "no"}
    assert generation.finish_reason == "stop"


def test_enum_schema(context: Context) -> None:
    values = ["high", 'a "quote"', "line\nbreak", "é漢😀", "back\\slash", 7, None, [1, "x"]]
    grammar = Grammar.from_json_schema({"enum": values})
    found = [json.loads(text_of(context, grammar, seed=s, **VARIED)) for s in range(60)]
    assert all(value in values for value in found)
    assert len({json.dumps(value) for value in found}) > 4


@pytest.mark.parametrize("temperature", [0.0, 0.7, 3.0])
def test_object_schema(context: Context, temperature: float) -> None:
    grammar = Grammar.from_json_schema(json.dumps(REPORT))
    for seed in range(8):
        text = text_of(
            context, grammar, **{**VARIED, "temperature": temperature, "seed": seed, "top_k": 40 * (seed % 2)}
        )
        found = json.loads(text)
        assert list(found)[:3] == REPORT["required"]
        assert set(found) <= set(REPORT["properties"])
        assert 2 <= len(found["composition"]) <= 12
        assert found["score"] in range(11)
        assert found["rating"] in {"high", "medium", "low"}
        assert set(found.get("faults", [])) <= {"noise", "blur"}
        assert len(found.get("faults", [])) <= 2


def test_strings_are_json_and_whole_characters(context: Context) -> None:
    grammar = Grammar.from_json_schema({"type": "string", "minLength": 30, "maxLength": 60})
    for seed in range(8):
        text = text_of(context, grammar, seed=seed, **VARIED)
        assert "\ufffd" not in text
        assert 30 <= len(json.loads(text)) <= 60


def test_definitions_may_refer_to_themselves(context: Context) -> None:
    schema = {
        "$defs": {"my_node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/my_node"}}}},
        "$ref": "#/$defs/my_node",
    }
    for seed in range(5):
        found = json.loads(text_of(context, Grammar.from_json_schema(schema), seed=seed, **VARIED))
        assert set(found) <= {"next"}


def test_a_definition_is_not_taken_for_a_property_of_its_name(context: Context) -> None:
    schema = {
        "properties": {"a": {"const": "word"}, "b": {"$ref": "#/$defs/a"}},
        "required": ["a", "b"],
        "$defs": {"a": {"type": "boolean"}},
    }
    found = json.loads(text_of(context, Grammar.from_json_schema(schema)))
    assert found["b"] in {True, False}


def random_text(noise: Any, grammar: Grammar, *, forced: bool) -> str:
    model, tokens = noise.model, []
    with Sampler(Sampling(), GrammarState(model, grammar)) as chooser:
        step = chooser.begin() if forced else Step([], ended=False)
        tokens += step.tokens
        while not step.ended:
            if forced:
                step = chooser.step(noise, 0)
            else:
                token = chooser.sample(noise, 0)
                step = Step([] if model.is_end(token) else [token], ended=model.is_end(token))
            tokens += step.tokens
    return b"".join(map(model.piece, tokens)).decode().removeprefix(" ")


def test_forcing_text_leaves_the_language_as_it_is(llm: LanguageModel) -> None:
    grammar = Grammar.from_gbnf('root ::= ("high" | "hill" | "low") " the l" ("ine" | "ines")? ("é" | "漢")')
    noise = Noise(llm)
    forced = {random_text(noise, grammar, forced=True) for _ in range(150)}
    assert forced == {random_text(noise, grammar, forced=False) for _ in range(150)}
    assert forced == {f"{a} the l{b}{c}" for a in ("high", "hill", "low") for b in ("", "ine", "ines") for c in "é漢"}


def test_forced_text_takes_fewer_decodes(context: Context, n_decodes: list[int]) -> None:
    grammar = Grammar.from_json_schema(REPORT)
    text_of(context, grammar)
    n_forced, n_tokens = len(n_decodes), sum(n_decodes)
    n_decodes.clear()
    token_by_token(context, grammar, Sampling())
    assert n_forced < 0.6 * len(n_decodes)
    assert n_decodes[0] == len(prompt(context.model)) < n_tokens


def test_what_the_answer_begins_with_comes_with_the_prompt(context: Context, n_decodes: list[int]) -> None:
    literal = "A long literal, " * 20 + "é漢😀 and <s> </s> \u2581."
    generation = answer(context, Grammar.from_gbnf(f'root ::= "{literal}" [0-9]'), max_tokens=2000)
    text = "".join(generation)
    assert text[:-1] == literal
    assert text[-1] in "0123456789"
    assert generation.finish_reason == "stop"
    assert len(n_decodes) == 1
    assert n_decodes[0] == len(prompt(context.model)) + len(generation.tokens) - 1


def test_an_answer_without_a_choice_needs_one_prefill(context: Context, n_decodes: list[int]) -> None:
    assert text_of(context, Grammar.from_gbnf('root ::= "just this"')) == "just this"
    assert len(n_decodes) == 1


def test_scheduler_interface(context: Context) -> None:
    model = context.model
    state = GrammarState(model, Grammar.from_gbnf('root ::= "ab" ("cde" | "xyz") "!"'))
    with Sampler(Sampling(), state) as chooser:
        step = chooser.begin()
        assert (b"".join(map(model.piece, step.tokens)), step.ended) == (b" ab", False)
        rows = context.append([(0, [*prompt(model), *step.tokens]), (1, [model.bos])], [True, False])
        step = chooser.step(context, rows[0])
        assert b"".join(map(model.piece, step.tokens)) in {b"cde!", b"xyz!"}
        assert step.ended
    with Sampler(Sampling()) as plain:
        assert plain.begin() == ([], False)
        assert plain.step(context, rows[0]) == ([Sampler(Sampling()).sample(context, rows[0])], False)


def test_last_forced_token_is_left_to_the_model_where_a_longer_one_fits(llm: LanguageModel) -> None:
    state = GrammarState(llm, Grammar.from_gbnf('root ::= "the " ("High" | "Low")'))
    assert [llm.piece(token) for token in state.forced()] == [b" the"]  # and not the space, which begins " High"


@pytest.mark.parametrize("text", ["A b", " A b", "  ", "é", "漢字😀", "\n", "<s>", "\u2581", "\x01", "the image", '{"'])
def test_tokens_of_forced_text_spell_exactly_that_text(llm: LanguageModel, text: str) -> None:
    tokens = TokenVocabulary.of(llm)(text)
    assert b"".join(map(llm.piece, tokens)) == text.encode()
    assert llm.bos not in tokens
    literal = "".join(f"\\U{ord(c):08X}" for c in text)
    state = GrammarState(llm, Grammar.from_gbnf(f'root ::= "{literal}"'))
    assert b"".join(map(llm.piece, state.forced())) == f" {text}".encode()
    assert state.is_over


def test_forced_text_finishes_a_character_that_was_begun(llm: LanguageModel) -> None:
    state = GrammarState(llm, Grammar.from_gbnf('root ::= ("é" | "漢") "x"'))
    assert b"".join(map(llm.piece, state.forced())) == b" "
    state.accept([3 + 0xE6])  # the byte token with which 漢 begins
    assert b"".join(map(llm.piece, state.forced())) == "漢".encode()[1:] + b"x"


def test_two_characters_that_begin_with_the_same_byte(llm: LanguageModel) -> None:
    grammar = Grammar.from_gbnf('root ::= "é" | "ê"')
    noise = Noise(llm)
    assert {random_text(noise, grammar, forced=True) for _ in range(30)} == {"é", "ê"}


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_max_tokens_in_the_middle(context: Context, n: int) -> None:
    generation = answer(context, Grammar.from_gbnf('root ::= "abcdefgh" ("i" | "j") "klmnop"'), max_tokens=n)
    text = "".join(generation)
    assert (len(generation.tokens), generation.finish_reason) == (n, "length")
    assert "abcdefgh".startswith(text[:8])


def test_stop_string_with_a_grammar(context: Context) -> None:
    grammar = Grammar.from_gbnf('root ::= "one. two. " [a-c] " three."')
    generation = Generation(
        context, 0, prompt(context.model), sampling=Sampling(), max_tokens=50, stop=["two"], grammar=grammar
    )
    assert "".join(generation) == "one. "
    assert generation.finish_reason == "stop"


@pytest.mark.parametrize(
    ("grammar", "texts"),
    [
        ('root ::= "a" "b"?', {"a", "ab"}),
        ('root ::= ("a" | "ab") ("bc" | "c")?', {"a", "ab", "abc", "ac", "abbc"}),
        ('root ::= "x" | "(" root ")" | ("x" [^\\x00-\\U0010FFFF])', {"x", "(x)", "((x))"}),
        ('root ::= root "a" | "b"', {"b", "ba", "baa"}),
        ('root ::= [\\-a\\]"/] # a comment\n', {"-", "a", "]", '"', "/"}),
        ('root ::= "\\u00e9" | [\\U0001F600-\\U0001F601]', {"é", "\U0001f600", "\U0001f601"}),
        ('root ::= .{2} |\n  ("\\n" | "\\t") (\n"z")', None),
    ],
)
def test_the_texts_of_a_grammar(llm: LanguageModel, grammar: str, texts: set[str] | None) -> None:
    made, noise = Grammar.from_gbnf(grammar), Noise(llm)
    found = {random_text(noise, made, forced=True) for _ in range(150)}
    assert found >= texts if texts is not None else all(len(text) == 2 for text in found)
    if texts is not None and "root" not in grammar.partition("::=")[2]:
        assert found == texts


def test_an_answer_may_end_wherever_its_grammar_may(llm: LanguageModel) -> None:
    state = GrammarState(llm, Grammar.from_gbnf('root ::= s (" " s){0,2}\ns ::= [a-c]+ "."'))
    may_end = []
    for character in " ab. c. a.":
        may_end.append(llm.eos in state.allowed())
        state.accept(TokenVocabulary.of(llm)(character))
    assert may_end == [False] * 4 + [True] + [False] * 2 + [True] + [False] * 2
    assert state.is_over


def test_context_that_is_full_ends_the_answer(llm: LanguageModel) -> None:
    with Context(llm, n_ctx=256, n_seq_max=1, n_threads=1) as context:
        generation = answer(context, Grammar.from_gbnf("root ::= [a-z]{2000}"), max_tokens=2000)
        assert len("".join(generation)) > 100
        assert generation.finish_reason == "length"


def test_control_tokens_do_not_spell_their_names(llm: LanguageModel) -> None:
    state = GrammarState(llm, Grammar.from_gbnf('root ::= "<s>" | "<unk>" | "</s>"'))
    state.accept(TokenVocabulary.of(llm)(" "))
    assert {llm.piece(int(token)) for token in state.allowed()} == {b"<"}
    with pytest.raises(UsageError, match="does not allow"):
        state.accept([llm.bos])


def test_without_a_grammar_nothing_changes(context: Context, llm: LanguageModel) -> None:
    free = Generation(context, 0, prompt(llm), sampling=Sampling(), max_tokens=20)
    text = "".join(free)
    context.truncate(0, 0)
    anything = answer(context, Grammar.from_gbnf("root ::= [^\\x00]*"), max_tokens=20)
    spoken = "".join(anything)
    assert text
    assert spoken


def test_logits_that_are_no_numbers_are_an_error(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "logits", lambda _row: np.full(context.model.n_vocab, np.nan, np.float32))
    with pytest.raises(InferenceError, match="not finite"):
        list(answer(context, Grammar.from_gbnf("root ::= [a-z]+")))


def test_json_text_and_mapping_are_the_same_schema() -> None:
    assert Grammar.from_json_schema(REPORT).source == Grammar.from_json_schema(json.dumps(REPORT)).source


@pytest.mark.skipif(not FULL_VOCABULARY.is_file(), reason="the vocabulary of Llama is not here")
def test_the_vocabulary_of_llama() -> None:
    with LanguageModel(FULL_VOCABULARY, vocab_only=True) as model:
        vocabulary = TokenVocabulary.of(model)
        state = GrammarState(model, Grammar.from_json_schema(REPORT))
        assert b"".join(map(model.piece, state.forced())).startswith(b' {"composition')
        for text in ("a word", '{"é漢😀":', "  two", "\tx", "\u2581", "<s>"):
            assert b"".join(map(model.piece, vocabulary(text))) == text.encode()
        assert vocabulary(" word") == model.tokenize("word")
        state = GrammarState(model, Grammar.from_gbnf('root ::= "yes" | "no"'))
        assert state.forced() == []  # the space is part of the word
        allowed = state.allowed()
        assert model.tokenize("yes")[0] in allowed
        spaces = [token for token, text in enumerate(vocabulary.tokens) if text == b" "]
        assert len(spaces) == 2  # <0x20> and the piece: whichever the model prefers
        assert set(spaces) <= set(allowed.tolist())


def test_tiny_vocabulary_is_what_these_tests_take_it_for(llm: LanguageModel) -> None:
    assert len(tiny.vocabulary()[0]) == llm.n_vocab
    assert TokenVocabulary.of(llm).has_all_bytes
