"""A profile: kept whole, believed only where everything is as it was, and never stronger than what the user says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from conftest import open_tiny

from aesedge.bundle.bundle import Bundle, open_bundle
from aesedge.config import profile as profiles
from aesedge.config.options import Options
from aesedge.config.plan import Settings
from aesedge.config.planning import make_plan
from aesedge.config.profile import (
    FORMAT,
    Profile,
    delete_profile,
    load_profile,
    machine_facts,
    profile_key,
    profile_path,
    save_profile,
)
from aesedge.doctor.probe import caught_warnings

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Settings(
    vision="fp32",
    vision_device="auto",
    kv_type="q8_0",
    gpu_layers="auto",
    repack=False,
    flash_attention=True,
    n_ubatch=128,
    threads=1,
    threads_batch=2,
    threads_vision=3,
)


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return open_bundle(bundle_folder)


def profile_of(bundle: Bundle, device: str = "cpu", **changes: Any) -> Profile:
    other = replace(SETTINGS, n_ubatch=64)
    fields: dict[str, Any] = {
        "format": FORMAT,
        "key": profile_key(bundle.manifest, "F32", device),
        "measured_at": "2026-01-01T00:00:00+00:00",
        "took_s": 1.0,
        "machine": machine_facts(),
        "settings": {"score": SETTINGS, "critique": other},
        "expected_s": {"score": 0.5},
        "trials": [],
    }
    return Profile(**{**fields, **changes})


def keep(bundle: Bundle, profile: Profile) -> Path:
    path = profile_path(bundle.manifest, "F32", profile.key)
    save_profile(profile, path)
    return path


def test_what_is_kept_is_read_back(bundle: Bundle) -> None:
    profile = profile_of(bundle)
    path = keep(bundle, profile)
    assert load_profile(bundle.manifest, "F32", "cpu") == profile
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written beside it


def test_plan_takes_the_settings_of_its_purpose(bundle: Bundle) -> None:
    keep(bundle, profile_of(bundle))
    plan = make_plan(Options(device="cpu", purpose="score"), bundle)
    assert plan.settings == SETTINGS
    assert make_plan(Options(device="cpu", purpose="critique"), bundle).n_ubatch == 64


def test_untuned_is_as_if_there_were_none(bundle: Bundle) -> None:
    before = make_plan(Options(device="cpu"), bundle)
    keep(bundle, profile_of(bundle))
    assert make_plan(Options(device="cpu"), bundle) != before
    assert make_plan(Options(device="cpu", tuned=False), bundle) == before


def test_what_the_user_says_goes_first(bundle: Bundle) -> None:
    keep(bundle, profile_of(bundle))
    plan = make_plan(Options(device="cpu", purpose="score", threads=7, kv_type="f16", gpu_layers=0), bundle)
    assert (plan.threads, plan.threads_batch, plan.threads_vision) == (7, 7, 7)
    assert (plan.kv_type, plan.gpu_layers) == ("f16", 0)
    assert plan.n_ubatch == 128  # the rest is as it was tuned


def test_8_bit_kv_has_flash_attention_whatever_was_tuned(bundle: Bundle) -> None:
    slow = replace(SETTINGS, kv_type="f16", flash_attention=False)
    keep(bundle, profile_of(bundle, settings={"score": slow}))
    assert not make_plan(Options(device="cpu", purpose="score"), bundle).flash_attention
    assert make_plan(Options(device="cpu", purpose="score", kv_type="q8_0"), bundle).flash_attention


def test_model_runs_with_it(bundle: Bundle, bundle_folder: Path, photo_path: Path) -> None:
    keep(bundle, profile_of(bundle))
    with open_tiny(bundle_folder, purpose="score") as model, model.look(photo_path) as photo:
        assert model.internals.sequences.context.kv_type == "q8_0"
        assert 0 <= photo.score().score <= 10
    with open_tiny(bundle_folder, purpose="score", tuned=False) as model:
        assert model.internals.sequences.context.kv_type == "f16"


@pytest.mark.parametrize("fact", ["cpu", "n_cores", "gpus", "packages"])
def test_another_machine_has_another_profile(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, fact: str) -> None:
    keep(bundle, profile_of(bundle))
    others = {"cpu": "another", "n_cores": 99, "gpus": ["another"], "packages": {"llama-cpp-python": "0.0.1"}}
    facts = {**machine_facts(), fact: others[fact]}
    monkeypatch.setattr(profiles, "machine_facts", lambda: facts)
    assert load_profile(bundle.manifest, "F32", "cpu") is None


def test_another_file_has_another_profile(bundle: Bundle) -> None:
    keep(bundle, profile_of(bundle))
    files = [msgspec.structs.replace(f, sha256="0" * 64) if f.type == "F32" else f for f in bundle.manifest.files]
    assert load_profile(msgspec.structs.replace(bundle.manifest, files=files), "F32", "cpu") is None
    assert load_profile(bundle.manifest, "F32", "cpu") is not None
    assert load_profile(bundle.manifest, "Q4_K_M", "cpu") is None
    assert load_profile(bundle.manifest, "F32", "auto") is None


DAMAGES = {"empty": b"", "cut": b'{"format":1,', "other fields": b'{"format":1,"key":"0"}', "no text": b"\xff\xfe"}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_profile_is_one_remark_and_the_defaults(bundle: Bundle, damage: bytes) -> None:
    before = make_plan(Options(device="cpu"), bundle)
    path = keep(bundle, profile_of(bundle))
    path.write_bytes(damage)
    with caught_warnings() as remarks:
        assert make_plan(Options(device="cpu"), bundle) == before
    (remark,) = remarks
    assert str(path) in remark
    assert "aesedge tune" in remark


def test_profile_of_another_key_is_not_believed(bundle: Bundle) -> None:
    path = profile_path(bundle.manifest, "F32", profile_key(bundle.manifest, "F32", "cpu"))
    save_profile(profile_of(bundle, key="0" * 64), path)
    assert load_profile(bundle.manifest, "F32", "cpu") is None
    save_profile(profile_of(bundle, format=FORMAT + 1), path)
    assert load_profile(bundle.manifest, "F32", "cpu") is None


def test_forgotten_profile_is_gone(bundle: Bundle) -> None:
    assert not delete_profile(bundle.manifest, "F32", "cpu")
    keep(bundle, profile_of(bundle))
    assert delete_profile(bundle.manifest, "F32", "cpu")
    assert load_profile(bundle.manifest, "F32", "cpu") is None


@pytest.mark.parametrize(
    ("machine", "gguf", "n_bytes", "purpose", "instructions", "expected"),
    [
        ("x86_64", "Q4_K_M", 4 * 10**9, "critique", "", (False, False)),
        ("x86_64", "Q4_K_M", 4 * 10**9, "score", "avx512", (False, True)),
        ("AMD64", "Q4_0", 4 * 10**9, "critique", "", (True, False)),
        ("AMD64", "Q4_0", 4 * 10**9, "critique", "avx2", (False, False)),
        ("x86_64", "Q4_K_M", 10**7, "critique", "avx512", (False, True)),
        ("arm64", "Q4_K_M", 4 * 10**9, "critique", "dotprod", (True, True)),
    ],
)
def test_where_nobody_measured_the_hardware_decides(
    machine: str, gguf: str, n_bytes: int, purpose: Any, instructions: str, expected: tuple[bool, bool],
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("aesedge.config.planning.kernels_in_use", lambda *, wanted: instructions if wanted else "")
    monkeypatch.setattr("platform.machine", lambda: machine)
    bundle = open_bundle(bundle_folder)
    llm = msgspec.structs.replace(bundle.manifest.files[-1], role="llm", type=gguf, n_bytes=n_bytes)
    others = [file for file in bundle.manifest.files if file.type.lower() != gguf.lower()]
    manifest = msgspec.structs.replace(bundle.manifest, files=[*others, llm])
    options = Options(gguf=gguf, purpose=purpose, device="cpu", tuned=False)
    plan = make_plan(options, Bundle(bundle.folder, manifest))
    assert (plan.repack, plan.flash_attention) == expected
    small = Options(gguf=gguf, purpose=purpose, device="cpu", tuned=False, kv_type="q8_0")
    assert make_plan(small, Bundle(bundle.folder, manifest)).flash_attention  # which that type needs
