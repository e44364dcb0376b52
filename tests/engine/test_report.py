"""Structured critiques and constrained answers, over real tiny models and pocket: in form, in few batches, anywhere."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import jsonschema
import pytest
from batches import Batches, free
from conftest import drawn_photo, open_tiny

from aesedge.engine.generation_options import GenerationOptions
from aesedge.engine.report import MOST_SENTENCES
from aesedge.errors import UsageError
from aesedge.llm import Grammar
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aesedge.engine.model import Model
    from aesedge.engine.results import Report

SCHEMA = {
    "type": "object",
    "properties": {
        "composition": {"type": "string", "maxLength": 12},
        "rating": {"enum": ["high", "medium", "low"]},
        "faults": {"type": "array", "items": {"enum": ["noise", "blur", "tilt"]}, "maxItems": 3},
    },
    "required": ["composition", "rating", "faults"],
    "additionalProperties": False,
}
JSON = GenerationOptions(grammar=Grammar.from_json_schema(SCHEMA), max_tokens=200)


@pytest.fixture
def pocket() -> Iterator[Model]:
    with open_tiny("pocket") as model:
        yield model


@pytest.fixture
def wide(bundle_folder: Path) -> Iterator[Model]:
    with open_tiny(bundle_folder, ctx=4096) as model:
        yield model


def check_form(report: Report, attributes: list[str]) -> None:
    assert list(report.attributes) == attributes
    for text in [*report.attributes.values(), report.advice]:
        assert text[-1] in ".!?"
        assert len(re.findall(r"[.!?](?= |$)", text)) <= MOST_SENTENCES
    for items in (report.strengths, report.faults):
        assert 1 <= len(items) <= MOST_SENTENCES
        assert all(item[-1] in ".!?" and item.strip() == item for item in items)


def test_no_field_goes_on_after_its_last_sentence(pocket: Model) -> None:
    for source in (*SAMPLE_PHOTOS, drawn_photo(1, (240, 200))):
        with pocket.look(source) as photo:
            report = photo.report()
        for text in [*report.attributes.values(), *report.strengths, *report.faults, report.advice]:
            # "straight.tical subject": what a grammar of two sentences made of a model that wanted a third one
            assert re.search(r"[.!?][^ ]", text) is None, text
            assert all(re.fullmatch(r"[A-Z][^.!?]*[.!?]", said) for said in re.split(r"(?<=[.!?]) ", text)), text


def test_reports_are_equal_in_form(pocket: Model) -> None:
    attributes = list(pocket.manifest.rating.attributes)
    before = free(pocket)
    for seed in range(4):
        with pocket.look(drawn_photo(seed, (240, 200))) as photo:
            check_form(photo.report(), attributes)
    assert free(pocket) == before


def test_fields_are_written_side_by_side(pocket: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pocket.look(SAMPLE_PHOTOS[0]) as photo:  # no answer to a photograph is longer than all others together
        photo.report()
        batches = Batches(pocket, monkeypatch)
        n_before = photo.timings.n_generated
        photo.report()
        n_tokens = photo.timings.n_generated - n_before
    n_fields = len(pocket.manifest.rating.attributes) + 3
    assert max(len(set(of_one)) for of_one in batches.sequences) == n_fields
    assert len(batches.sizes) < 0.5 * n_tokens


def test_a_report_that_is_cut_still_has_all_its_fields(wide: Model, photo_path: Path) -> None:
    with wide.look(photo_path) as photo:
        report = photo.report(max_tokens=6)
        assert list(report.attributes) == list(wide.manifest.rating.attributes)
        texts = [*report.attributes.values(), *report.strengths, *report.faults, report.advice]
        assert all(texts)
        assert all(text[-1] in ".!?\u2026" for text in texts)


def test_answers_fit_their_schema(wide: Model, photo_path: Path) -> None:
    with wide.look(photo_path) as photo:
        for seed in range(3):
            for answer in photo.ask_many(["what?", "why?", "how?"], JSON, temperature=2.0, top_k=0, seed=seed):
                jsonschema.validate(json.loads(answer.text), SCHEMA)
                assert answer.finish_reason == "stop"
                assert b"".join(map(wide.internals.llm.piece, answer.tokens)).decode().strip() == answer.text


def test_forced_text_is_prefilled(wide: Model, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wide.look(photo_path) as photo:
        n_question = len(wide.internals.llm.tokenize(wide.internals.template.after_image("what?")))
        batches = Batches(wide, monkeypatch)
        answer = photo.ask("what?", JSON)
        assert batches.sizes[0] > n_question + 5
        assert len(batches.sizes) < 0.7 * answer.n_tokens
        only = photo.ask("what?", grammar=Grammar.from_gbnf('root ::= "just this"'))
        assert only.text == "just this"
        assert only.finish_reason == "stop"


def test_forced_text_longer_than_a_batch(wide: Model, photo_path: Path) -> None:
    literal = "long " * 150
    grammar = Grammar.from_gbnf(f'root ::= [ab] "{literal}" [cd]')
    with wide.look(photo_path) as photo:
        whole = photo.ask("what?", grammar=grammar, max_tokens=900)
        assert re.fullmatch(f"[ab]{literal}[cd]", whole.text)
        for n in (1, 3, 40):
            cut = photo.ask("what?", grammar=grammar, max_tokens=n)
            assert whole.text.startswith(cut.text)
            assert (cut.n_tokens, cut.finish_reason) == (n, "length")
        assert photo.ask("what?", grammar=grammar, stop="g l").text[1:] == "lon"
        late = photo.ask("what?", grammar=grammar, deadline=1e-9)
        assert (late.n_tokens, late.finish_reason) == (0, "deadline")


def test_answers_with_a_grammar_make_room_and_come_back(bundle_folder: Path, photo_path: Path) -> None:
    grammar = Grammar.from_gbnf('root ::= ([a-e] " and a long text that is forced, " [f-k] ". "){6}')
    with open_tiny(bundle_folder, ctx=512) as model, model.look(photo_path) as photo:
        before = free(model)
        answers = photo.ask_many(["what?", "why?", "who?"], grammar=grammar, max_tokens=250)
        for answer in answers:
            assert re.fullmatch(r"([a-e] and a long text that is forced, [f-k]\. ){6}", answer.text)
        assert sum(answer.n_tokens for answer in answers) > model.internals.sequences.context.n_ctx
        assert free(model) == before


def test_a_schema_in_a_conversation(wide: Model, photo_path: Path) -> None:
    with wide.look(photo_path) as photo, photo.conversation() as talk:
        talk.ask("what?", max_tokens=8)
        for _ in range(2):
            answer = talk.ask("why?", JSON)
            jsonschema.validate(json.loads(answer.text), SCHEMA)
        assert answer.timings.n_reused > answer.timings.n_prompt / 2
        assert talk.turns[-1].tokens == answer.tokens
        assert talk.ask("and?", max_tokens=4).text


def test_a_grammar_that_is_too_ambiguous_fails_alone(wide: Model, photo_path: Path) -> None:
    grammar = Grammar.from_gbnf('root ::= x root "a" | x root "b" | x\nx ::= "x"')
    with wide.look(photo_path) as photo:
        alone = photo.ask("why?", max_tokens=8).text
        wrong = photo.stream("what?", grammar=grammar, stop=("a", "b"), max_tokens=200)
        fine = photo.stream("why?", max_tokens=8)
        try:
            wrong.read()
        except UsageError as error:
            assert "ambiguous" in str(error)  # noqa: PT017 (a model may also choose to end)
        assert fine.read().text == alone
