"""What a setting changes is compared with the most precise of its bundle, one open after the other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import tiny

from aesedge.bench import quality as measured
from aesedge.bench.quality import compare, read_reference, reference_options, setting_name
from aesedge.bench.result import Quality
from aesedge.bundle.bundle import POCKET, open_bundle
from aesedge.config.options import Options
from aesedge.config.planning import make_plan
from aesedge.engine.likelihood import N_TOKENS
from aesedge.engine.model import Model
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle

N = open_bundle(POCKET).manifest.image_tokens.max
OPTIONS = Options(threads=1, device="cpu", tuned=False, vision="fp32")


def quality(bundle: Bundle, options: Options, **chosen: Any) -> Quality:
    """Open one after the other."""
    reference = read_reference(bundle, options, **chosen)
    if isinstance(reference, Quality):
        return reference
    with Model(bundle, replace(options, cache="0")) as model:
        return compare(reference, model)


def test_pocket_s_smaller_type_says_nearly_the_same() -> None:
    shares: list[float] = []
    found = quality(open_bundle(POCKET), replace(OPTIONS, gguf="q4_k_m"), progress=shares.append)
    plan = make_plan(OPTIONS, open_bundle(POCKET))
    assert found.setting == f"q4_k_m, vision {plan.vision.lower()}, {N} image tokens, KV f16"
    assert found.reference == f"q8_0, vision fp32, {N} image tokens, KV f16"
    assert 0 < found.score_drift <= found.worst_score_drift < 0.5
    assert found.nll_change != 0
    assert abs(found.nll_change) < 0.5
    assert found.n_photos == len(SAMPLE_PHOTOS)
    assert not found.note
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_few_image_tokens_cost_pocket_little() -> None:
    """Each is a copy of the same embedding; what changes are positions."""
    bundle = open_bundle(POCKET)
    for n in (16, 3 * N // 4):
        few = quality(bundle, replace(OPTIONS, image_tokens=n), attributes=False)
        assert 0 < few.score_drift < 0.25
        assert f"{n} image tokens" in few.setting


def test_the_reference_itself_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "Model", None)  # which cannot be called
    found = quality(open_bundle(POCKET), OPTIONS)
    assert isinstance(found, Quality)
    assert (found.score_drift, found.nll_change, found.n_photos) == (0, 0, 0)
    assert "not measured: the setting is the reference itself" in found.note


def test_the_measured_model_may_be_open_already() -> None:
    options = replace(OPTIONS, gguf="q4_k_m")
    reference = read_reference(open_bundle(POCKET), options, photos=SAMPLE_PHOTOS[:1], attributes=False)
    assert not isinstance(reference, Quality)
    (reading,) = reference.readings
    assert len(reading.scores) == 1
    assert 0 < len(reading.text) <= N_TOKENS
    with Model(open_bundle(POCKET), options) as model:
        found = compare(reference, model)
        assert found.n_photos == 1
        assert model.look(SAMPLE_PHOTOS[0]).score()  # it stays open
    whole = quality(open_bundle(POCKET), options, photos=SAMPLE_PHOTOS[:1], attributes=False)
    assert whole == found


def test_random_weights_say_so(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(tiny.write_bundle(tmp_path / "made"), folder)
    bundle = open_bundle(folder)
    source = msgspec.structs.replace(bundle.manifest.source, checkpoint="random weights")
    bundle = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, source=source))
    found = quality(bundle, replace(OPTIONS, gguf="Q4_K_M"))  # other random weights
    assert found.score_drift > 0
    assert "the weights are random" in found.note


@pytest.mark.parametrize(
    ("llms", "visions", "expected"),
    [
        (("Q4_K_M", "Q8_0"), ("int8", "fp16"), ("Q8_0", "fp16")),
        (("Q2_K", "F16", "BF16"), ("fp16", "fp32"), ("BF16", "fp32")),
        (("IQ1_S",), ("int8",), ("IQ1_S", "int8")),
    ],
)
def test_the_most_precise_is_the_reference(
    llms: tuple[str, ...], visions: tuple[str, ...], expected: tuple[str, str]
) -> None:
    manifest = open_bundle(POCKET).manifest
    names = [("llm", t) for t in llms] + [("vision", t) for t in visions]
    files = [msgspec.structs.replace(manifest.files[0], path=t, role=role, type=t) for role, t in names]
    defaults = msgspec.structs.replace(manifest.defaults, gguf=llms[0], vision=visions[0])
    manifest = msgspec.structs.replace(manifest, files=files, defaults=defaults)
    given = Options(image_tokens=16, kv_type="q8_0", ctx=512, photos=3, threads=1)
    found = reference_options(manifest, given)
    assert (found.gguf, found.vision) == expected
    assert (found.image_tokens, found.kv_type, found.ctx, found.photos, found.tuned) == (None, "f16", None, 1, False)
    assert (found.cache, found.threads) == ("0", 1)


def test_a_setting_is_named_by_what_it_changes_in_answers() -> None:
    plan = make_plan(replace(OPTIONS, kv_type="q8_0"), open_bundle(POCKET))
    assert setting_name(plan) == f"q8_0, vision {plan.vision.lower()}, {N} image tokens, KV q8_0"
    assert setting_name(replace(plan, repack=not plan.repack)) == setting_name(plan)
