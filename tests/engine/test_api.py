"""The public names, and that they agree with each other."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import test_imports
from conftest import drawn_photo, open_tiny

import aesedge
from aesedge.config.options import DEVICES, PURPOSES, Options
from aesedge.config.profile import Purpose
from aesedge.engine import generation_options, model
from aesedge.engine.generation_options import GenerationOptions
from aesedge.errors import AesedgeError, UsageError
from aesedge.vision.providers import Device

if TYPE_CHECKING:
    from aesedge.engine.model import Model

RESULTS = ("Answer", "GenerationOptions", "Options", "PhotoResult", "Rating", "Report", "Timings", "Turn")


def test_lists_of_public_names_agree() -> None:
    source = Path(aesedge.__file__).read_text(encoding="utf-8")
    for_types = {
        i.target.rpartition(".")[::2] for i in test_imports.imports_of(source, "aesedge/x.py") if i.when == "types"
    }
    homes = {(f"aesedge.{home}", name) for name, home in aesedge._HOMES.items()}
    assert {(home, name) for home, name in for_types if name != "load_model" or home == "aesedge.engine.model"} == homes
    assert aesedge.__all__ == sorted(aesedge._HOMES)
    for home, name in homes:
        found = getattr(aesedge, name)
        assert found is getattr(importlib.import_module(home), name)
        assert found.__module__ == home
        assert found.__doc__
    assert set(aesedge.__all__) <= set(dir(aesedge))
    with pytest.raises(AttributeError, match="nothing"):
        aesedge.nothing  # noqa: B018


def test_a_star_import_leaves_the_builtin_open_alone() -> None:
    names: dict[str, Any] = {}
    exec("from aesedge import *", names)  # noqa: S102
    assert "open" not in names
    assert names["load_model"] is aesedge.open is aesedge.load_model


def test_every_error_is_public() -> None:
    errors = {name for name, found in vars(aesedge.errors).items() if inspect.isclass(found)}
    assert errors == set(aesedge.errors.__all__) <= set(aesedge.__all__)
    assert all(issubclass(getattr(aesedge, name), AesedgeError) for name in errors)


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_frozen_dataclasses(name: str) -> None:
    assert dataclasses.is_dataclass(getattr(aesedge, name))
    assert getattr(aesedge, name).__dataclass_params__.frozen


@pytest.mark.parametrize(
    ("keywords", "options", "module"),
    [
        (generation_options.GenerationKeywords, GenerationOptions, generation_options),
        (model.OptionKeywords, Options, model),
    ],
)
def test_keywords_are_the_fields_of_the_options(keywords: type, options: type, module: Any) -> None:
    fields = {field.name: field.type for field in dataclasses.fields(options)}
    assert keywords.__annotations__.keys() == fields.keys()
    written = {name: t.__forward_arg__ for name, t in keywords.__annotations__.items()}
    assert written == fields


def test_choices_are_those_of_the_types() -> None:
    assert typing.get_args(Device) == DEVICES
    assert set(typing.get_args(Purpose)) == set(PURPOSES)


def test_a_model_shows_what_users_need(model: Model) -> None:
    shown = {name for name in dir(model) if not name.startswith("_")}
    assert shown == {
        *("bundle", "close", "each", "gguf", "internals", "look", "manifest", "n_image_tokens", "photos_at_once"),
        *("score_many", "vision"),
    }


def test_objects_say_what_they_are(model: Model) -> None:
    with model.look(drawn_photo(), name="a.jpg") as photo, photo.conversation() as talk:
        answer, stream = photo.ask("what?", max_tokens=2), photo.stream("what?", max_tokens=2)
        stream.read()
        talk.ask("what?", max_tokens=1)
        assert repr(model) == "<Model 'tiny', f32, 16 image tokens>"
        assert repr(photo) == "<Photo 'a.jpg', 16 image tokens, cold>"
        assert repr(answer) == f"Answer({answer.text!r}, n_tokens=2, finish_reason='length')"
        assert repr(stream) == "AnswerStream(n_tokens=2, finish_reason='length')"
        assert repr(talk) == "<Conversation of 1 turn>"
        assert (str(answer), answer.n_tokens) == (answer.text, len(answer.tokens))
        assert msgspec.json.decode(msgspec.json.encode(answer))["finish_reason"] == "length"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temprature": 1.0}, "did you mean temperature"),
    ({"max_tokens": None}, "max-tokens is None"),
    ({"sentences": 0}, "sentences is 0"),
    ({"temperature": "hot"}, "temperature is 'hot'"),
    ({"stop": 3}, "list of texts"),
    ({"stop": [1]}, "list of texts"),
    ({"grammar": {"type": "string"}}, r"Grammar.from_json_schema"),
]


@pytest.mark.parametrize(("keywords", "told"), WRONG)
def test_wrong_options_are_named(model: Model, keywords: dict[str, Any], told: str) -> None:
    with model.look(drawn_photo()) as photo, photo.conversation() as talk:
        for call in (photo.ask, photo.stream, talk.ask, talk.stream):
            with pytest.raises(UsageError, match=told):
                call("what?", **keywords)
        for call in (photo.critique, photo.report, talk.retry):
            with pytest.raises(UsageError, match=told):
                call(**keywords)


def test_wrong_questions_and_options_are_named(model: Model) -> None:
    grammar = aesedge.Grammar.from_gbnf('root ::= "a"')
    calls: list[tuple[Any, str]] = [
        (lambda photo: photo.ask("  "), "empty"),
        (lambda photo: photo.ask(3), "int"),
        (lambda photo: photo.rate([""]), "empty"),
        (lambda photo: photo.ask_many(["what?", ""]), "empty"),
        (lambda photo: photo.ask_many("what?"), "list"),
        (lambda photo: photo.conversation().ask(""), "empty"),
        (lambda photo: photo.conversation().retry(), "nothing was said"),
        (lambda photo: photo.ask("what?", {"seed": 1}), "GenerationOptions"),
        (lambda photo: photo.report(grammar=grammar), "grammar"),
        (lambda _: list(model.each([], print, at_once=0)), "at_once"),
        (lambda photo: photo.rate("what?"), "list"),
        (lambda photo: photo.ask_many(None), "list"),
        (lambda _: model.score_many("photos"), "list of photos"),
        (lambda _: model.each(5, print), "list of photos"),
        (lambda _: model.look("a.jpg", name=3), "name is 3"),
        (lambda _: model.look("a.jpg", priority=7), "Priority"),
        (lambda _: model.look("a.jpg", image_tokens="x"), "image-tokens is 'x'"),
    ]
    with model.look(drawn_photo()) as photo:
        for call, told in calls:
            with pytest.raises(UsageError, match=told):
                call(photo)


LOADING: list[tuple[dict[str, Any], str]] = [
    ({"thread": 1}, "did you mean threads"),
    ({"bundle": 3}, "bundle is 3"),
    ({"progress": 3}, "progress is 3"),
    *[
        ({name: 3}, f"{name} is 3; it must be a")
        for name in ("gguf", "vision", "kv_type", "memory", "cache", "cache_folder")
    ],
    *[({name: "x"}, f"{name} is 'x'; it must be one of") for name in ("device", "purpose")],
    *[({name: "x"}, name) for name in ("ctx", "gpu_layers", "image_tokens", "threads", "tuned", "worth_keeping_s")],
]


@pytest.mark.parametrize(("keywords", "told"), LOADING)
def test_wrong_options_of_load_model_are_named(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told.replace("_", "[-_]")):
        aesedge.load_model(**keywords)


def test_a_cache_folder_may_be_a_text(bundle_folder: Path, tmp_path: Path) -> None:
    with open_tiny(bundle_folder, cache_folder=str(tmp_path / "cache"), worth_keeping_s=0) as opened:
        opened.look(drawn_photo()).close()
    assert list((tmp_path / "cache").iterdir())


def test_keywords_go_before_options(model: Model) -> None:
    options = GenerationOptions(max_tokens=3, seed=1)
    with model.look(drawn_photo()) as photo:
        assert photo.ask("what?", options).n_tokens == 3
        assert photo.ask("what?", options, max_tokens=2).n_tokens == 2
        whole = photo.ask("what?", max_tokens=12).text
        assert photo.ask("what?", max_tokens=12, stop=whole[3:5]).text == whole[: whole.index(whole[3:5])]
