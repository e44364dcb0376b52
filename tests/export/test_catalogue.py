"""Names become repositories; of a repository only what an export reads is taken; room is asked for beforehand."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aesedge_export import disk_space
from aesedge_export.hub.catalogue import catalogue, find
from aesedge_export.hub.checkpoint_files import HubFile, check_file, git_sha1, needed_files

from aesedge.bundle.manifest import NAME_PATTERN
from aesedge.errors import BundleError, DownloadError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path=path, n_bytes=1, git_sha1="0" * 40) for path in paths]


def chosen(*paths: str) -> list[str]:
    return [file.path for file in needed_files("a/b", files(*paths))]


def test_every_known_checkpoint_is_pinned_or_says_why_not() -> None:
    entries = [*catalogue().models, catalogue().vision_tower]
    for entry in entries:
        assert re.fullmatch(NAME_PATTERN, entry.name)
        assert re.fullmatch("[0-9a-f]{40}", entry.revision) or entry.revision_note
        assert entry.n_bytes > 0
    assert len({entry.name for entry in entries}) == len(entries)
    assert all(entry.license and entry.license_url for entry in catalogue().models)


def test_names_repositories_and_revisions() -> None:
    known = find("AesExpert-7b")
    assert known.repository == "qyuan/AesMMIT_LLaVA_v1.5_7b_240325"
    assert find(known.repository) == known
    assert find("aesexpert-7b@v1").revision == find("qyuan/AesMMIT_LLaVA_v1.5_7b_240325@v1").revision == "v1"
    assert find("aesexpert-7b@v1").license == known.license
    other = find("some.one/some-model_1@refs/pr/3")
    assert (other.repository, other.revision, other.name) == ("some.one/some-model_1", "refs/pr/3", "some-model_1")
    assert other.license == ""


@pytest.mark.parametrize("asked", ["aesexpert", "", "a/b/c", "../up", "./folder", "/folder/x", "a/../b", "a b/c"])
def test_an_unknown_name_lists_the_known_ones(asked: str) -> None:
    with pytest.raises(UsageError, match=r"aesexpert-7b, llava-1\.5-7b, llava-1\.5-13b.*OWNER/NAME"):
        find(asked)


def test_only_what_an_export_reads_is_taken_small_files_first() -> None:
    names = (
        "README.md",
        "a.png",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    )
    others = ("model.safetensors.index.json", "optimizer.pt", "tf_model.h5", "flax_model.msgpack", "training_args.bin")
    deeper = ("onnx/model.onnx", "checkpoint-100/config.json", "checkpoint-100/pytorch_model.bin")
    assert chosen(*names, *others, *deeper, "tokenizer.model") == [
        "config.json",
        "model.safetensors.index.json",
        "tokenizer.model",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_safetensors_are_taken_before_pickles() -> None:
    pickled = ("pytorch_model.bin", "pytorch_model.bin.index.json")
    assert chosen("config.json", "model.safetensors", *pickled) == ["config.json", "model.safetensors"]
    assert chosen("config.json", *pickled) == ["config.json", "pytorch_model.bin.index.json", "pytorch_model.bin"]


def test_a_model_that_lies_there_twice_is_taken_once() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert chosen("config.json", "model.safetensors", *shards) == ["config.json", "model.safetensors"]
    index = "model.safetensors.index.json"
    assert chosen("config.json", index, "model.safetensors", *shards) == ["config.json", index, *shards]


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("model.safetensors",), r"no config\.json"),
        (("config.json", "model-q4.gguf"), "aesedge import"),
        (("config.json", "README.md"), "no weights"),
        (("config.json", "model-00001-of-00003.safetensors"), r"2 of 3 weight files are missing there .number 2"),
        (("config.json", "adapter_config.json", "adapter_model.safetensors"), "LoRA"),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused_by_its_names(paths: tuple[str, ...], words: str) -> None:
    with pytest.raises(DownloadError, match=words):
        needed_files("a/b", files(*paths))


def test_a_file_is_known_by_its_published_hash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert git_sha1(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    right = HubFile(path="file", n_bytes=6, git_sha1=git_sha1(path))
    check_file(path, right)
    path.write_bytes(b"hellO\n")
    with pytest.raises(DownloadError, match="git hash is"):
        check_file(path, right)
    with pytest.raises(DownloadError, match="SHA-256 is"):
        check_file(path, HubFile(path="file", n_bytes=6, sha256="0" * 64))
    with pytest.raises(DownloadError, match="6 bytes instead of 7"):
        check_file(path, HubFile(path="file", n_bytes=7, sha256="0" * 64))


class Usage(NamedTuple):
    free: int


def test_room_is_asked_of_the_disk_that_will_hold_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: asked.append(folder) or Usage(3_000_000_000))
    disk_space.require_space(tmp_path / "not" / "there", 3_000_000_000, "it")
    assert asked == [tmp_path]
    with pytest.raises(BundleError, match=r"no room for it: 4\.5 GB are needed, 3 GB are free; free 1\.5 GB more"):
        disk_space.require_space(tmp_path / "not" / "there", 4_500_000_000, "it")
    assert disk_space.on_one_disk(tmp_path / "a" / "b", tmp_path)


def test_the_estimate_of_a_bundle_covers_known_sizes() -> None:
    one = disk_space.bundle_bytes(7.06e9, ["Q4_K_M"], ["int8"])
    assert 4.08e9 + 0.31e9 < one < 5.5e9  # llama.cpp's Q4_K_M of a Llama 7B is 4.08 GB
    assert disk_space.bundle_bytes(7.06e9, ["Q4_K_M", "Q4_K_M"], ["int8"]) == one
    assert disk_space.bundle_bytes(7.06e9, ["Q4_K_M", "F16"], ["int8"]) > one + 13.4e9
