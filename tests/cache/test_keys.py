"""Keys: equal for equal ingredients, another one as soon as any ingredient is another one."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aesedge.cache import embeddings_key, kv_key, pixels_digest
from aesedge.cache import keys as identity_module
from aesedge.cache.keys import _encoded
from aesedge.errors import UsageError
from aesedge.image import preprocess
from aesedge.image.image_spec import ImageSpec

A, B, C, D = (digit * 64 for digit in "abcd")
SPEC = ImageSpec(size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), pad_color=(1, 2, 3))
EMBEDDINGS: dict[str, Any] = {
    "pixels": A,
    "tower_sha256": B,
    "provider": "CPUExecutionProvider",
    "runtime": "onnxruntime 1.22.0",
    "image": SPEC,
    "n_image_tokens": 576,
    "reduction": "none",
}
KV: dict[str, Any] = {
    "embeddings": C,
    "gguf_sha256": D,
    "prefix": [1, 319, 13563],
    "template": "vicuna_v1",
    "kv_type": "f16",
    "settings": {"flash_attention": True, "n_batch": 1024},
    "llama_cpp": "b6000",
}
OTHER_EMBEDDINGS = [
    {"pixels": B},
    {"tower_sha256": A},
    {"provider": "CUDAExecutionProvider"},
    {"runtime": "onnxruntime 1.23.0"},
    *(
        {"image": msgspec.structs.replace(SPEC, **{field: value})}
        for field, value in {
            "size": 9,
            "mean": (0.5, 0.4, 0.30000001),
            "std": (0.2, 0.2, 0.3),
            "pad_color": (1, 2, 4),
        }.items()
    ),
    {"n_image_tokens": 144},
    {"reduction": "pool"},
]
OTHER_KV = [
    {"embeddings": A},
    {"embeddings": None},
    {"gguf_sha256": A},
    {"prefix": [1, 319]},
    {"prefix": [1, 31, 913563]},
    {"prefix": [319, 1, 13563]},
    {"template": "vicuna_v0"},
    {"kv_type": "q8_0"},
    {"settings": {"flash_attention": False, "n_batch": 1024}},
    {"settings": {"flash_attention": 1, "n_batch": 1024}},
    {"settings": {"flash_attention": "True", "n_batch": 1024}},
    {"settings": {"flash_attention": True}},
    {"settings": {"flash_attention": True, "n_batch": 1024, "n_ubatch": None}},
    {"llama_cpp": "b6001"},
]


def test_every_ingredient_of_embeddings_changes_their_key() -> None:
    keys = [embeddings_key(**{**EMBEDDINGS, **other}) for other in ({}, *OTHER_EMBEDDINGS)]
    assert len(set(keys)) == len(keys)
    assert {name for other in OTHER_EMBEDDINGS for name in other} == set(EMBEDDINGS)


def test_every_ingredient_of_kv_changes_its_key() -> None:
    keys = [kv_key(**{**KV, **other}) for other in ({}, *OTHER_KV)]
    assert len(set(keys)) == len(keys)
    assert {name for other in OTHER_KV for name in other} == set(KV)


def test_every_field_of_the_preprocessing_is_tried() -> None:
    tried = [other["image"] for other in OTHER_EMBEDDINGS if "image" in other]
    for field in ImageSpec.__struct_fields__:
        assert any(getattr(spec, field) != getattr(SPEC, field) for spec in tried), field


@pytest.mark.parametrize("what", ["pixels", "embeddings", "kv"])
def test_format_version_is_part_of_every_key(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def key() -> str:
        if what == "pixels":
            return pixels_digest(np.zeros((1, 3, 2, 2), np.float32))
        return embeddings_key(**EMBEDDINGS) if what == "embeddings" else kv_key(**KV)

    before = key()
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert key() == before
    monkeypatch.setattr(identity_module, "FORMAT_VERSION", 2)
    assert key() != before


def test_order_of_settings_and_type_of_token_ids_do_not_matter() -> None:
    turned = dict(reversed(KV["settings"].items()))
    as_array = np.array(KV["prefix"], dtype=np.int32)
    assert kv_key(**{**KV, "settings": turned, "prefix": as_array}) == kv_key(**KV)


def test_pixels_of_another_dtype_shape_or_value_are_another_photo() -> None:
    pixels = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    others = [
        pixels.reshape(1, 1, 2, 8),
        pixels.reshape(1, 4, 4),
        pixels.view(np.int32),
        pixels.astype(">f4"),
        pixels + np.float32(1e-6),
        pixels.transpose(0, 1, 3, 2),
    ]
    digests = {pixels_digest(array) for array in (pixels, *others)}
    assert len(digests) == len(others) + 1


def test_pixels_are_told_by_value_not_by_layout_in_memory() -> None:
    pixels = np.random.default_rng(0).random((1, 3, 6, 6), dtype=np.float32)
    wide = np.zeros((1, 3, 6, 12), np.float32)
    wide[..., ::2] = pixels
    assert pixels_digest(wide[..., ::2]) == pixels_digest(pixels) == pixels_digest(np.asfortranarray(pixels))


def test_pixels_of_no_dimension_and_of_no_pixel_have_digests() -> None:
    assert pixels_digest(np.float32(1)[...]) != pixels_digest(np.ones(1, np.float32))
    assert pixels_digest(np.zeros((0, 3), np.float32)) != pixels_digest(np.zeros((3, 0), np.float32))


def test_turned_photo_is_another_photo() -> None:
    picture = Image.effect_noise((8, 8), 60).convert("RGB")
    assert pixels_digest(preprocess(picture, SPEC)) != pixels_digest(preprocess(picture.rotate(90), SPEC))


@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=4), st.lists(st.text(), max_size=4))
def test_encoding_tells_all_lists_of_texts_apart(some: list[str], others: list[str]) -> None:
    assert (_encoded("x", some) == _encoded("x", others)) == (some == others)


def test_encoding_tells_lone_surrogates_from_the_letter_they_make_together() -> None:
    assert _encoded("x", "\ud83d\ude00") != _encoded("x", "\U0001f600")


@pytest.mark.parametrize("wrong", ["", "model.gguf", A[:-1], A.upper(), A + "\n"])
def test_what_is_no_sha256_is_refused(wrong: str) -> None:
    for name in ("pixels", "tower_sha256"):
        with pytest.raises(UsageError, match=name):
            embeddings_key(**{**EMBEDDINGS, name: wrong})
    for name in ("embeddings", "gguf_sha256"):
        with pytest.raises(UsageError, match=name):
            kv_key(**{**KV, name: wrong})


@pytest.mark.parametrize("value", [float("nan"), [1], {"a": 1}, b"x", object()])
def test_settings_that_json_would_blur_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match="strange"):
        kv_key(**{**KV, "settings": {"strange": value}})


def test_names_of_settings_are_text() -> None:
    with pytest.raises(UsageError, match="1"):
        kv_key(**{**KV, "settings": {1: "a"}})


def test_pixels_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="object"):
        pixels_digest(np.array([object()]))
