"""A cache folder that somebody altered: what cannot be used is dropped, said once, and made again; answers stay."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from conftest import open_tiny

from aesedge.bundle import checksums
from aesedge.bundle.bundle import open_bundle
from aesedge.cli import main
from aesedge.config import profile as profiles
from aesedge.config.options import Options
from aesedge.config.plan import Settings
from aesedge.config.planning import make_plan
from aesedge.config.profile import FORMAT, Profile, machine_facts, profile_key, profile_path, save_profile
from aesedge.doctor.probe import caught_warnings
from aesedge.system.paths import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture(autouse=True)
def forget_what_was_said() -> None:
    checksums._remark_once.cache_clear()
    checksums.remark_unwritable.cache_clear()
    profiles._remark_once.cache_clear()


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_link(path: Path) -> None:
    other = path.with_name("somebody-elses")
    other.write_bytes(b"untouched")
    os.utime(other, ns=(10**18, 10**18))
    path.symlink_to(other)


def put_folder(path: Path) -> None:
    path.mkdir()


def put_deep(path: Path) -> None:
    path.write_bytes(DEEP)


def put_nothing(path: Path) -> None:
    path.write_bytes(b"")


def put_numbers(path: Path) -> None:
    path.write_text(json.dumps({"a": [1e308, -1, 10**400, None, "x"]}))


def put_long(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room, and reads as zeros


KINDS = [put_fifo, put_device, put_link, put_folder, put_deep, put_nothing, put_numbers, put_long]


def scored(folder: Path, photo: Path) -> float:
    with open_tiny(folder, worth_keeping_s=0.0) as model, model.look(photo) as seen:
        return seen.score().score


@pytest.mark.parametrize("put", KINDS)
def test_whatever_stands_in_place_of_a_file_answers_stay(
    bundle_folder: Path, photo_path: Path, put: Callable[[Path], None]
) -> None:
    before = scored(bundle_folder, photo_path)
    caches = cache_folder()
    files = [path for path in caches.rglob("*") if path.is_file() and path.parent.name != "proven"]
    assert {path.name for path in files} >= {"hashes.json", ".lock"}
    assert any(path.suffix == ".entry" for path in files)
    for path in files:
        path.unlink()
        put(path)
    with caught_warnings() as remarks:
        assert scored(bundle_folder, photo_path) == before
    assert len(remarks) == len(set(remarks))
    with caught_warnings() as remarks:  # what was dropped is there again; a folder is left to its owner
        assert scored(bundle_folder, photo_path) == before
    assert put is put_folder or not remarks
    for other in caches.rglob("somebody-elses"):
        assert other.read_bytes() == b"untouched"
        assert other.stat().st_mtime_ns == 10**18
    assert main(["cache"]) == 0


def test_a_remembered_hash_that_was_altered_is_no_verdict(bundle_folder: Path) -> None:
    opened = open_bundle(bundle_folder)
    opened.path("llm", "f32")
    memory = cache_folder() / "hashes.json"
    known = json.loads(memory.read_bytes())
    for value in known.values():
        value[-1] = "0" * 64
    memory.write_text(json.dumps(known))
    assert opened.path("llm", "f32").is_file()
    assert "0" * 64 not in memory.read_text()  # what was wrong is mended


SETTINGS = {
    "vision": "fp32",
    "vision_device": "auto",
    "kv_type": "f16",
    "gpu_layers": "auto",
    "repack": True,
    "flash_attention": True,
    "n_ubatch": 64,
    "threads": 1,
    "threads_batch": 1,
    "threads_vision": 1,
}


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 10**9},
        {"threads_batch": 60_000},
        {"threads_vision": 0},
        {"threads": 1e308},
        {"n_ubatch": 10**6},
        {"n_ubatch": 0},
        {"gpu_layers": -(10**9)},
        {"gpu_layers": 99},
        {"kv_type": "q1_z"},
        {"kv_type": "q8_0", "flash_attention": False},
        {"kv_type": "\x1b[31m" * 100},
        {"vision_device": "cuda"},
        {"vision_device": "metal"},
        {"vision": "int3"},
        {"vision": None},
    ],
    ids=str,
)
def test_settings_that_this_machine_has_not_are_dropped_with_one_remark(
    bundle_folder: Path, photo_path: Path, change: dict[str, Any]
) -> None:
    bundle = open_bundle(bundle_folder)
    before = make_plan(Options(device="cpu"), bundle)
    key = profile_key(bundle.manifest, "F32", "cpu")
    profile = Profile(
        format=FORMAT, key=key, measured_at="2026", took_s=1.0, machine=machine_facts(), settings={}, expected_s={},
        trials=[],
    )  # fmt: skip
    path = profile_path(bundle.manifest, "F32", key)
    save_profile(msgspec.structs.replace(profile, settings={"critique": msgspec.convert(SETTINGS, Settings)}), path)
    assert make_plan(Options(device="cpu"), bundle).n_ubatch == 64  # it is believed as it is
    written = json.loads(path.read_bytes())
    written["settings"]["critique"].update(change)
    path.write_text(json.dumps(written))
    with caught_warnings() as remarks:
        assert make_plan(Options(device="cpu"), bundle) == before
        assert make_plan(Options(device="cpu"), bundle) == before
        assert 0 <= scored(bundle_folder, photo_path) <= 10
    (remark,) = remarks
    assert path.name in remark
    assert "aesedge tune" in remark


def test_a_type_from_the_command_line_is_no_part_of_a_path(bundle_folder: Path) -> None:
    with pytest.raises(Exception, match="has no GGUF type"):
        open_tiny(bundle_folder, gguf="../../../x")


def test_a_file_in_place_of_the_cache_folder(
    bundle_folder: Path, photo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scored(bundle_folder, photo_path)
    for put in (put_nothing, put_fifo, put_device):
        path = tmp_path / "caches"
        put(path)
        monkeypatch.setenv("AESEDGE_CACHE", str(path))
        assert scored(bundle_folder, photo_path) == before
        assert main(["cache"]) == 0
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
