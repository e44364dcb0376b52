"""Bundles and manifests: strict reading, one clear line for everything that can be wrong."""

from __future__ import annotations

import json
import logging
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import tiny
from conftest import open_tiny

from aesedge.bundle import bundle as bundles
from aesedge.bundle import checksums
from aesedge.bundle.manifest import MANIFEST_NAME, format_manifest, parse_manifest
from aesedge.errors import AesedgeError, BundleFormatError, BundleIntegrityError, BundleNotFoundError, UsageError
from aesedge.system.atomic_file import write_atomic
from aesedge.system.paths import cache_folder, data_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, bundle_folder: Path) -> Path:
    """A bundle that may be spoilt."""
    return shutil.copytree(bundle_folder, tmp_path / "copy")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_manifest_survives_writing_and_reading(folder: Path) -> None:
    data = (folder / MANIFEST_NAME).read_bytes()
    manifest = parse_manifest(data, "x")
    assert format_manifest(manifest) == data
    assert manifest.types("llm") == ["F32", "Q4_K_M"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("prompt"), "prompt"),
        (lambda m: m.update(format_version=2), "update aesedge"),
        (lambda m: m.update(format_version=0), "export the bundle again"),
        (lambda m: m.update(format_version="1"), "format_version"),
        (lambda m: m.update(mood="good"), "mood"),
        (lambda m: m.update(name="../evil"), "name"),
        (lambda m: m["files"][0].update(bytes="many"), r"files\[0\]\.bytes"),
        (lambda m: m["files"][0].update(sha256="abc"), "sha256"),
        (lambda m: m["files"][0].update(path="../../etc/passwd"), "plain file name"),
        (lambda m: m["files"][1].update(type=m["files"][2]["type"]), "same role and type"),
        (lambda m: m["defaults"].update(gguf="Q9"), "Q9"),
        (lambda m: m["defaults"].update(vision="int3"), "int3"),
        (lambda m: m["image_tokens"].update(min=99), "99"),
        (lambda m: m["image_tokens"].update(min=1), "'none' means that min equals max"),
        (lambda m: m["image_tokens"].update(method="cells"), "contradicts the method 'cells'"),
        (lambda m: m["image"].update(std=[0.2, 0.0, 0.2]), "std"),
        (lambda m: m["rating"]["weights"].pop("low"), "labels"),
        (lambda m: m["rating"]["weights"].update(low=7), "weights"),
        (lambda m: m.update(n_embd=0), "n_embd"),
    ],
)
def test_wrong_manifest_is_named_with_the_field(folder: Path, change: Any, message: str) -> None:
    edit(folder, change)
    with pytest.raises(BundleFormatError, match=message) as caught:
        bundles.open_bundle(folder)
    assert MANIFEST_NAME in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"{}"])
def test_manifest_that_is_no_manifest(folder: Path, data: bytes) -> None:
    (folder / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(BundleFormatError, match="not a valid manifest"):
        bundles.open_bundle(folder)


def test_missing_file(folder: Path) -> None:
    (folder / "llm-f32.gguf").unlink()
    with pytest.raises(BundleIntegrityError, match=r"llm-f32\.gguf: missing"):
        bundles.open_bundle(folder)


def test_file_of_another_size(folder: Path) -> None:
    with (folder / "llm-f32.gguf").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleIntegrityError, match="bytes, the manifest says"):
        bundles.open_bundle(folder)


def test_altered_file_of_the_same_size_is_found_when_it_is_loaded(folder: Path) -> None:
    path = folder / "llm-f32.gguf"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    opened = bundles.open_bundle(folder)
    with pytest.raises(BundleIntegrityError, match="SHA-256"):
        opened.path("llm", "f32")


def test_altered_after_it_was_remembered(folder: Path) -> None:
    opened = bundles.open_bundle(folder)
    path = opened.path("llm", "f32")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleIntegrityError, match="SHA-256"):
        opened.path("llm", "f32")


def test_verify_reads_every_file(folder: Path) -> None:
    n_read: list[int] = []
    opened = bundles.open_bundle(folder)
    assert [problem for _, problem in opened.verify(n_read.append)] == ["", "", ""]
    assert sum(n_read) == sum(f.n_bytes for f in opened.manifest.files)
    data = (folder / "vision-fp32.onnx").read_bytes()
    (folder / "vision-fp32.onnx").write_bytes(data[:-1] + b"x")
    (folder / "llm-other.gguf").unlink()
    problems = {file.path: problem for file, problem in bundles.read_unchecked(folder).verify()}
    assert "altered" in problems["vision-fp32.onnx"]
    assert "missing" in problems["llm-other.gguf"]
    assert problems["llm-f32.gguf"] == ""


def test_hash_is_remembered_and_not_computed_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "llm-f32.gguf"
    first = checksums.cached_sha256(path)
    monkeypatch.setattr(checksums, "sha256", lambda _path: pytest.fail("read again"))
    assert checksums.cached_sha256(path) == first


@pytest.mark.parametrize("memory", [b"", b"[]", b"\xff", b'{"x": 1}', b'{"x": [1, 2]}'])
def test_damaged_memory_of_hashes_is_only_forgotten(folder: Path, memory: bytes) -> None:
    path = folder / "llm-f32.gguf"
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "hashes.json").write_bytes(memory)
    assert checksums.cached_sha256(path) == checksums.sha256(path)


def test_unwritable_cache_costs_a_remark_and_nothing_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A file where the folder should be cannot be written into, not even by root.
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("AESEDGE_CACHE", str(blocked / "cache"))
    # A test that ran the command line before has left its level and handlers on the logger.
    log = logging.getLogger("aesedge")
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "handlers", [])
    caplog.set_level(logging.WARNING, "aesedge")
    checksums.remark_unwritable.cache_clear()
    opened = bundles.open_bundle(folder)
    assert opened.path("llm", "f32").is_file()
    assert opened.path("vision", "fp32").is_file()
    assert [r.getMessage().count("AESEDGE_CACHE") for r in caplog.records] == [1]


def test_names_are_found_at_home_and_folders_anywhere(bundle_folder: Path, tmp_path: Path) -> None:
    home = data_folder()
    shutil.copytree(bundle_folder, home / "mine")
    assert bundles.open_bundle("mine").folder == home / "mine"
    assert bundles.open_bundle(bundle_folder).folder == bundle_folder
    with pytest.raises(BundleNotFoundError, match=r"installed are: .*mine"):
        bundles.open_bundle("yours")
    with pytest.raises(BundleNotFoundError, match=MANIFEST_NAME):
        bundles.open_bundle(tmp_path)


def test_unknown_type_lists_those_there_are(bundle_folder: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="f32, q4_k_m"):
        open_tiny(bundle_folder, gguf="q5_0")
    with pytest.raises(BundleNotFoundError, match="fp32"):
        open_tiny(bundle_folder, vision="int8")


def test_type_is_found_in_any_case(bundle_folder: Path) -> None:
    opened = bundles.open_bundle(bundle_folder)
    assert opened.path("llm", "Q4_k_M") == bundle_folder / "llm-other.gguf"


def rebuilt(tmp_path: Path, **parts: Any) -> Path:
    """Return a bundle whose hashes are right and whose parts do not fit."""
    folder = tmp_path / "misfit"
    folder.mkdir()
    llm = tiny.write_gguf(folder / "llm-f32.gguf", **parts.pop("llm", {}))
    tower = tiny.write_tower(folder / "vision-fp32.onnx", **parts.pop("tower", {}))
    tiny.write_manifest(folder, [tiny.described(tower, "vision", "fp32"), tiny.described(llm, "llm", "F32")], **parts)
    return folder


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"tower": {"n_embd": 32}}, "projector's rows are 32 wide, the language model's 64"),
        ({"llm": {"n_embd": 128}}, "64 wide, the language model's 128"),
        ({"n_embd": 65}, "the manifest says 65"),
        ({"llm": {"architecture": "qwen2"}}, r"llm-f32\.gguf"),
        ({"image": tiny.ImageSpec(size=64, mean=tiny.MEAN, std=tiny.STD, pad_color=(0, 0, 0))}, "64"),
        ({"prompt": tiny.PromptSpec(template="chatml", critique="x")}, "chatml"),
    ],
)
def test_parts_that_do_not_fit_together(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(AesedgeError, match=message) as caught:
        open_tiny(rebuilt(tmp_path, **parts))
    assert "\n" not in str(caught.value)


def test_onnx_that_is_no_tower(tmp_path: Path) -> None:
    folder = rebuilt(tmp_path)
    (folder / "vision-fp32.onnx").write_bytes(b"not a graph")
    files = [
        tiny.described(folder / "vision-fp32.onnx", "vision", "fp32"),
        tiny.described(folder / "llm-f32.gguf", "llm", "F32"),
    ]
    tiny.write_manifest(folder, files)
    with pytest.raises(AesedgeError, match="is no ONNX file"):
        open_tiny(folder)


def test_options_are_checked(bundle_folder: Path) -> None:
    with pytest.raises(UsageError, match="16 image tokens"):
        open_tiny(bundle_folder, image_tokens=8)
    with pytest.raises(UsageError, match="threads"):
        open_tiny(bundle_folder, threads=0)
    with pytest.raises(UsageError, match="mood"):
        open_tiny(bundle_folder, mood="good")


def test_a_small_file_is_written_whole_with_the_rights_of_the_user_s_other_files(tmp_path: Path) -> None:
    path, other = tmp_path / "result.json", tmp_path / "other"
    other.write_bytes(b"")
    write_atomic(path, b"1")
    assert path.stat().st_mode == other.stat().st_mode
    path.chmod(0o600)
    kept = path.stat().st_mode
    write_atomic(path, b"2")
    assert (path.read_bytes(), path.stat().st_mode) == (b"2", kept)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "result.json"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomic(tmp_path / "folder", b"3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "other", "result.json"]
