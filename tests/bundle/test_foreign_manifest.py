"""A manifest that somebody else wrote: whatever is in it, it is read, or refused in one line that names it."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from aesedge.bundle import bundle as bundles
from aesedge.bundle.checksums import sha256
from aesedge.bundle.manifest import MANIFEST_MAX_BYTES, MANIFEST_NAME
from aesedge.cli import main
from aesedge.errors import BundleError, BundleFormatError, BundleIntegrityError, BundleNotFoundError
from aesedge.system.paths import data_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, bundle_folder: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "copy")


def replaced(manifest: dict[str, Any], path: str, value: object) -> None:
    """Set a field by its path: ``files.0.path``."""
    *above, last = path.split(".")
    inner: Any = manifest
    for key in above:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[int(last) if isinstance(inner, list) else last] = value


# Field, value, and a part of the message that names the field.
WRONG: list[tuple[str, object, str]] = [
    ("format_version", 10**400, "format_version|not a valid manifest|format version"),
    ("format_version", -1, "format version -1"),
    ("name", "tiny\n", "name"),
    ("name", "a" * 101, "name"),
    ("name", "\x1b[31mred", "name"),
    ("license", "x" * 2000, "license"),
    ("created_by", None, "created_by"),
    ("source.checkpoint", "", "checkpoint"),
    ("n_embd", 1e308, "n_embd"),
    ("n_embd", 2**40, "n_embd"),
    ("image.size", 10**6, "size"),
    ("image.mean", [0.5, 1e308, 0.5], "mean"),
    ("image.std", [0.5, -0.5, 0.5], "std"),
    ("image.std", [0.5, 1e-300, 0.5], "std"),
    ("image.pad_color", [300, 0, 0], "pad_color"),
    ("image.pad_color", [-1, 0, 0], "pad_color"),
    ("image_tokens.max", 10**9, "max"),
    ("image_tokens.curve", [{"n": 4, "score_drift": 1e308}], "curve"),
    ("prompt.template", "\x1b]0;x\x07", "template"),
    ("prompt.critique", "x" * 100_000, "critique"),
    ("rating.question", "", "question"),
    ("rating.labels", {"high": ["x"] * 1000, "low": ["y"]}, "labels"),
    ("rating.attributes", {f"a{i}": "x" for i in range(1000)}, "attributes"),
    ("rating.weights", {"high": 1e308, "medium": 0.5, "low": 0.0}, "weights"),
    ("files.0.bytes", -1, "bytes"),
    ("files.0.bytes", 2**80, "bytes"),
    ("files.0.type", "../../x", "type"),
    ("files.0.sha256", "0" * 64 + "\n", "sha256"),
    *(
        ("files.0.path", path, "plain file name")
        for path in ("/etc/passwd", "..", "a/b", "a\\b", "C:x", "a\x00b", "a\nb", ".hidden", "con. ", "x" * 300)
    ),
    ("files.0.path", "Manifest.JSON", "plain file name"),
    ("files.0.path", "llm-f32.gguf", "same path"),
    ("fidelity", "good", "fidelity"),
    ("fidelity", {"photos": "a.jpg"}, "photos"),
    ("fidelity", {"photos": [1]}, "photos"),
    ("fidelity", {"stages": {"a": 1}}, "stages"),
    ("fidelity", {"stages": [{"figures": {"kl": "small"}}]}, "figures"),
    ("fidelity", {"types": {"F32": {"mean_kl": [1]}}}, "mean_kl"),
    ("fidelity", {"types": {"F32": {"n_positions": 1e308}}}, "n_positions"),
    ("fidelity", {"types": {"F32": {"max_score_drift": 1e308}}}, "max_score_drift"),
    ("fidelity", {"vision": {"fp32": {"limits": {"min_cosine": {}}}}}, "min_cosine|limits"),
    ("fidelity", {"verdicts": {"close": 1}}, "verdicts"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{p}={str(v)[:20]!a}" for p, v, _ in WRONG])
def test_a_field_beyond_its_bounds_is_named(folder: Path, path: str, value: object, message: str) -> None:
    manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
    replaced(manifest, path, value)
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(BundleFormatError, match=message) as caught:
        bundles.open_bundle(folder)
    assert MANIFEST_NAME in str(caught.value)
    assert len(str(caught.value)) < 1000


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "data",
    [
        DEEP,
        b'{"format_version":1,"x":' + DEEP + b"}",
        b'{"format_version":1,"name":"\\ud800"}',
        b'{"format_version":NaN}',
        b'{"format_version":1e999}',
        b"\xef\xbb\xbf{}",
        b'{"format_version":1,"fidelity":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        b" " * (MANIFEST_MAX_BYTES + 1),
    ],
    ids=["deep", "deep in a field", "half a character", "NaN", "infinite", "byte order mark", "deep object", "long"],
)
def test_json_that_is_no_manifest(folder: Path, data: bytes) -> None:
    (folder / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(BundleError, match=MANIFEST_NAME):
        bundles.open_bundle(folder)


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_folder(path: Path) -> None:
    path.mkdir()


def put_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("name", [MANIFEST_NAME, "llm-f32.gguf", "vision-fp32.onnx"])
@pytest.mark.parametrize("put", [put_fifo, put_folder, put_device, put_loop])
def test_what_is_no_regular_file_is_not_opened(folder: Path, name: str, put: Any, capsys: Any) -> None:
    (folder / name).unlink()
    put(folder / name)
    with pytest.raises(BundleError, match=name):
        bundles.open_bundle(folder)
    assert main(["verify", str(folder)]) == 1
    assert name in capsys.readouterr().err


def test_a_link_to_other_content_is_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "llm-f32.gguf"
    other = tmp_path / "other"
    other.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    path.symlink_to(other)
    with pytest.raises(BundleIntegrityError, match="altered"):
        bundles.open_bundle(folder).path("llm", "f32")


@pytest.mark.parametrize("name", [MANIFEST_NAME, "llm-f32.gguf", "vision-fp32.onnx"])
def test_a_git_lfs_pointer_is_called_one(folder: Path, name: str) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    (folder / name).write_text(pointer)
    with pytest.raises(BundleError, match=f"{name}: is a Git LFS pointer.*git lfs pull"):
        bundles.open_bundle(folder)


ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\nline\u202e"


@pytest.mark.parametrize("field", ["license", "created_by", "source.checkpoint", "source.layout", "rating.attributes"])
def test_no_text_of_a_manifest_steers_the_terminal(folder: Path, field: str, capsys: Any) -> None:
    manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
    replaced(manifest, field, {ESCAPES: "How?"} if field == "rating.attributes" else ESCAPES)
    manifest["fidelity"] = {
        "reference": ESCAPES,
        "photos": [ESCAPES],
        "note": ESCAPES,
        "stages": [{"stage": ESCAPES, "figures": {ESCAPES: 1.5}}],
        "types": {ESCAPES: {"mean_kl": 0.1, "verdict": ESCAPES}},
        "verdicts": {ESCAPES: {"mean_kl": 1}},
        "vision": {ESCAPES: {"min_cosine": 1, "layers_in_fp32": [ESCAPES]}},
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    assert main(["info", str(folder)]) == 0
    printed = capsys.readouterr()
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(printed.out + printed.err)


def test_a_card_in_another_encoding_is_shown(folder: Path, capsys: Any) -> None:
    manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
    card = "Größe\x1b[31m\n".encode("latin-1")
    (folder / "card.md").write_bytes(card)
    digest = sha256(folder / "card.md")
    manifest["files"].append({"path": "card.md", "role": "card", "type": "md", "bytes": len(card), "sha256": digest})
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    assert main(["info", str(folder), "--card"]) == 0
    printed = capsys.readouterr().out
    assert "Gr\ufffd" in printed
    assert "\x1b" not in printed


@pytest.fixture
def home(bundle_folder: Path) -> Path:
    """Three bundles: one whose manifest is broken, one that was altered, one that is whole."""
    home = data_folder()
    for name in ("a-broken", "b-flipped", "c-good"):
        shutil.copytree(bundle_folder, home / name)
    (home / "a-broken" / MANIFEST_NAME).write_text("{")
    data = bytearray((home / "b-flipped" / "llm-f32.gguf").read_bytes())
    data[-1] ^= 1
    (home / "b-flipped" / "llm-f32.gguf").write_bytes(data)
    (home / ".c-good.1.partial").mkdir()
    shutil.copy(home / "c-good" / MANIFEST_NAME, home / ".c-good.1.partial")
    return home


def test_verify_goes_on_and_names_each(home: Path, capsys: Any) -> None:
    assert main(["verify"]) == 1
    printed = capsys.readouterr()
    first, second = printed.err.splitlines()
    assert "a-broken" in first
    assert "b-flipped" in second
    assert "altered" in second
    done = [line.split()[1] for line in printed.out.splitlines()]
    assert done.count("b-flipped") == 2
    assert done.count("c-good") == 3
    assert "pocket" in done
    assert main(["verify", "--json", "a-broken", "c-good"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(found["bundle"], found["ok"]) for found in lines] == [("a-broken", False)] + [("c-good", True)] * 3
    assert home.name in lines[0]["problem"] or MANIFEST_NAME in lines[0]["problem"]
    assert main(["verify", "nobody"]) == 2
    assert main(["verify", "nobody", "c-good"]) == 1


def test_bundles_shows_the_names_that_open_it(home: Path, capsys: Any) -> None:
    assert main(["bundles"]) == 1
    printed = capsys.readouterr()
    assert "a-broken" in printed.err
    assert "partial" not in printed.out + printed.err
    assert any(line.startswith("c-good (tiny)") for line in printed.out.splitlines())
    main(["bundles", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines if not line["ok"]] == ["a-broken"]
    names = [line["name"] for line in lines if line["ok"]]
    assert names == ["pocket", "b-flipped", "c-good"]
    for name in names:
        assert bundles.open_bundle(name).folder.name == name
    with pytest.raises(BundleNotFoundError, match="2 installed bundles are called 'tiny': b-flipped, c-good"):
        bundles.open_bundle("tiny")
    shutil.rmtree(home / "b-flipped")
    assert bundles.open_bundle("tiny").folder == home / "c-good"
    with pytest.raises(BundleNotFoundError, match=r"installed are: pocket, a-broken, c-good \(tiny\)"):
        bundles.open_bundle("yours")


def test_a_bundle_behind_a_name_that_is_taken_is_shown_by_its_folder(bundle_folder: Path, capsys: Any) -> None:
    hidden = shutil.copytree(bundle_folder, data_folder() / "pocket")
    assert main(["bundles", "--json"]) == 0
    names = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert names == ["pocket", str(hidden)]
    assert bundles.open_bundle(names[1]).folder == hidden


@pytest.mark.parametrize("name", ["x" * 5000, "a\x00b", "~nobody-of-this-name/x", "\udcff"])
def test_a_name_that_can_be_no_path_is_one_line(name: str) -> None:
    with pytest.raises(BundleNotFoundError, match="installed are") as caught:
        bundles.open_bundle(name)
    assert len(str(caught.value)) < 600
