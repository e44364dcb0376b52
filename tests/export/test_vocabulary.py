"""A tokenizer.json alone gives llama.cpp the same vocabulary as the tokenizer.model that it was made from."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import gguf
import tiny_layouts
import tiny_llava
from aesedge_export.checkpoint.tokenizer_json import open_tokenizer_json, read_tokenizer_json
from aesedge_export.checkpoint.tokenizer_model import open_tokenizer_model, read_tokenizer_model
from aesedge_export.checkpoint.vocabulary import Vocabulary, open_tokenizer, read_vocabulary
from aesedge_export.language.checkpoint_source import _add_vocabulary
from conftest import SHARED
from sentencepiece import sentencepiece_model_pb2

from aesedge.errors import CheckpointError
from aesedge.llm import LanguageModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.export

SPECIAL = {"bos": 1, "eos": 2, "pad": None}
SPACE = "\u2581"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both files."""
    return both_files(tmp_path_factory.mktemp("both"))


def both_files(folder: Path, *, legacy: bool = True) -> Path:
    if not (folder / "tokenizer.model").exists():
        # Sentences with runs of spaces teach pieces of spaces alone, as Llama's tokenizer has them.
        tiny_llava.train_tokenizer(folder / "tokenizer.model", vocab_size=600)
    kept = (folder / "tokenizer.model").read_bytes()
    tiny_layouts.keep_only_tokenizer_json(folder, legacy=legacy)
    (folder / "tokenizer.model").write_bytes(kept)
    return folder


def random_texts(n: int, words: list[str]) -> list[str]:
    rng = random.Random(5)
    odd = ["é", "日本", "🙂", "\u200d", "\x00", SPACE, "<s>", "<0x0A>", "zq", "aaaa"]
    parts = [*words, *odd, " ", "  ", "   ", "\n", "\t"]
    return ["", " ", *("".join(rng.choice(parts) for _ in range(rng.randrange(1, 12))) for _ in range(n))]


def words_of(folder: Path) -> list[str]:
    return [text.replace(SPACE, " ") for text in read_tokenizer_model(folder / "tokenizer.model").texts[259:]]


def llama_cpp_tokens(path: Path, vocabulary: Vocabulary, texts: list[str]) -> list[list[int]]:
    writer = gguf.GGUFWriter(path, "llama")
    _add_vocabulary(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with LanguageModel(path, vocab_only=True) as model:
        return [model.tokenize(text) for text in texts]


def edit_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "tokenizer.json"
    file = json.loads(path.read_bytes())
    change(file)
    path.write_text(json.dumps(file))
    return path


@pytest.mark.parametrize("legacy", [True, False])
def test_both_files_give_one_vocabulary(folder: Path, tmp_path: Path, legacy: bool) -> None:
    shutil.copy(folder / "tokenizer.model", tmp_path)
    both_files(tmp_path, legacy=legacy)
    assert (json.loads((tmp_path / "tokenizer.json").read_bytes())["normalizer"] is None) is not legacy
    expected = read_vocabulary(tmp_path, 640, SPECIAL)
    (tmp_path / "tokenizer.model").unlink()
    assert read_vocabulary(tmp_path, 640, SPECIAL) == expected


@pytest.mark.parametrize("legacy", [True, False])
def test_one_text_has_one_list_of_ids(folder: Path, tmp_path: Path, legacy: bool) -> None:
    shutil.copy(folder / "tokenizer.model", tmp_path)
    both_files(tmp_path, legacy=legacy)
    texts = random_texts(400, words_of(folder))
    by_model = open_tokenizer_model(folder / "tokenizer.model")
    by_json = open_tokenizer_json(tmp_path / "tokenizer.json")
    expected = [by_model(text) for text in texts]
    assert [by_json(text) for text in texts] == expected
    (tmp_path / "tokenizer.model").unlink()
    by_folder = open_tokenizer(tmp_path)
    assert [by_folder(text) for text in texts] == expected
    vocabulary = read_vocabulary(tmp_path, 640, SPECIAL)
    assert llama_cpp_tokens(tmp_path / "v.gguf", vocabulary, texts) == expected


def test_merges_in_another_order_than_ids(folder: Path, tmp_path: Path) -> None:
    # The ids say nothing then; the order of the merges must.
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    rng = random.Random(3)

    def shuffle(file: dict[str, Any]) -> None:
        vocab = file["model"]["vocab"]
        free = sorted(vocab.values())[259:]
        mixed = rng.sample(free, len(free))
        places = dict(zip(free, mixed, strict=True))
        file["model"]["vocab"] = {text: places.get(i, i) for text, i in vocab.items()}

    path = edit_json(tmp_path, shuffle)
    (tmp_path / "tokenizer.model").unlink()
    texts = random_texts(400, words_of(folder))
    by_json = open_tokenizer_json(path)
    vocabulary = read_vocabulary(tmp_path, 640, SPECIAL)
    assert vocabulary.pieces != read_vocabulary(folder, 640, SPECIAL).pieces
    assert llama_cpp_tokens(tmp_path / "v.gguf", vocabulary, texts) == [by_json(text) for text in texts]


def test_runs_of_spaces_that_llama_merges_last(folder: Path, tmp_path: Path) -> None:
    # All runs have one score in Llama's model, so transformers lists their merges in no order of pieces.
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / "tokenizer.model").read_bytes())
    for n in range(2, 9):
        if SPACE * n not in {p.piece for p in model.pieces}:
            model.pieces.add(piece=SPACE * n, type=1)
    for piece in model.pieces:
        if not piece.piece.strip(SPACE):
            piece.score = -1e9
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    both_files(tmp_path)
    texts = random_texts(400, words_of(folder)) + [" " * n for n in range(40)]
    spm, by_json = open_tokenizer_model(tmp_path / "tokenizer.model"), read_tokenizer_json(tmp_path / "tokenizer.json")
    expected = [spm(text) for text in texts]
    assert {text for text, score in zip(by_json.texts, by_json.scores, strict=True) if score == -1e9} == {
        SPACE * n for n in range(1, 9)
    }
    (tmp_path / "tokenizer.model").unlink()
    assert llama_cpp_tokens(tmp_path / "v.gguf", read_vocabulary(tmp_path, 640, SPECIAL), texts) == expected


@pytest.mark.skipif(not (SHARED / "vocab").exists(), reason="Llama's own vocabulary is not here")
def test_llama_s_own_vocabulary(tmp_path: Path) -> None:
    fields = gguf.GGUFReader(SHARED / "vocab" / "ggml-vocab-llama-spm.gguf").fields
    tokens, scores, types = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores", "token_type"))
    model = sentencepiece_model_pb2.ModelProto()
    for text, score, kind in zip(tokens, scores, types, strict=True):
        model.pieces.add(piece=text, score=score, type=kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.byte_fallback = 2, True
    trainer.unk_id, trainer.bos_id, trainer.eos_id = 0, 1, 2
    normalizer.name, normalizer.remove_extra_whitespaces = "identity", False
    normalizer.add_dummy_prefix = normalizer.escape_whitespaces = True
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    both_files(tmp_path)
    assert read_tokenizer_json(tmp_path / "tokenizer.json") == read_tokenizer_model(tmp_path / "tokenizer.model")
    texts = random_texts(500, ["USER: ", "ASSISTANT:", "High", "composition", "    x = 1", "ünïcode"])
    spm, by_json = open_tokenizer_model(tmp_path / "tokenizer.model"), open_tokenizer_json(tmp_path / "tokenizer.json")
    assert [by_json(text) for text in texts] == [spm(text) for text in texts]


def refuse_json(folder: Path, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        read_tokenizer_json(folder / "tokenizer.json")
    assert "\n" not in str(caught.value)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["model"].update(byte_fallback=False), "without byte fallback, not Llama's"),
        (lambda f: f["model"].update(type="Unigram"), "'Unigram' tokenizer, not Llama's"),
        (lambda f: f["model"].update(ignore_merges=True), "marks the ends"),
        (lambda f: f["model"].pop("unk_token"), "unknown text"),
        (lambda f: f.update(pre_tokenizer={"type": "ByteLevel"}), "in front of a text"),
        (lambda f: f.update(normalizer={"type": "NFKC"}), "in front of a text"),
        (lambda f: f["normalizer"]["normalizers"].pop(0), "in front of a text"),
        (lambda f: f["model"]["vocab"].popitem(), "which are no tokens"),
        (lambda f: f["model"]["vocab"].update(x9=9999), "gaps"),
        (lambda f: f["model"]["merges"].pop(3), "lists no merge"),
        (lambda f: f["model"]["merges"].reverse(), ""),
        (lambda f: f["model"].update(merges=[1, 2]), "not a tokenizer"),
        (lambda f: f.update(model=[]), "not Llama's|not a tokenizer"),
        (lambda f: f["model"].update(vocab=None), "not a tokenizer"),
    ],
)
def test_tokenizers_that_llama_cpp_would_read_otherwise(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    edit_json(tmp_path, change)
    if words:
        refuse_json(tmp_path, words)
    else:  # another order is another tokenizer, not a wrong one
        read = [read_tokenizer_json(place / "tokenizer.json") for place in (tmp_path, folder)]
        assert read[0].texts == read[1].texts
        assert read[0].scores != read[1].scores


def test_merges_without_an_order_of_pieces(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    merges = json.loads((folder / "tokenizer.json").read_bytes())["model"]["merges"]
    made = ["".join(merge) for merge in merges]
    several = next(i for i, text in enumerate(made) if made.count(text) > 1)
    edit_json(tmp_path, lambda f: f["model"]["merges"].append(f["model"]["merges"].pop(several)))
    refuse_json(tmp_path, "no order of pieces")


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    refuse_json(tmp_path, "not valid JSON")
    (tmp_path / "tokenizer.json").write_text("[]")
    refuse_json(tmp_path, "not a JSON object")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", '{"<x>": "many"}'),
        ("added_tokens.json", '{"<x>": null}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "y"}}}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"600": {}}}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": 7}'),
    ],
)
def test_damaged_added_tokens(folder: Path, tmp_path: Path, file: str, content: str) -> None:
    shutil.copy(folder / "tokenizer.model", tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match="added tokens"):
        read_vocabulary(tmp_path, 640, SPECIAL)


def test_a_tokenizer_of_another_size(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    with pytest.raises(CheckpointError, match=r"tokenizer.json has \d+ tokens, the token embedding 300 rows"):
        read_vocabulary(tmp_path, 300, SPECIAL)
