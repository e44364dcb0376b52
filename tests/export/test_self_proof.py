"""Without a checkpoint, files of a bundle are compared with its most precise ones; no PyTorch is loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tiny
from aesedge_export.parity.forced import ForcedSequence, read_prompts
from aesedge_export.parity.gguf_runtime import GgufRuntime
from aesedge_export.parity.language_proof import measure_file, most_precise
from aesedge_export.parity.proof_inputs import BundleFiles, Inputs
from aesedge_export.parity.self_proof import compare_files, compare_types, expect
from aesedge_export.parity.stages import N_GREEDY
from conftest import drawn_photo

from aesedge.bundle.bundle import open_bundle
from aesedge.engine.model import load_model
from aesedge.errors import ParityError
from aesedge.llm.prompt import prompt_template

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


@pytest.fixture(scope="module")
def inputs(bundle_folder: Path) -> Inputs:
    manifest = open_bundle(str(bundle_folder)).manifest
    photos = [(f"{seed}.png", drawn_photo(seed)) for seed in range(2)]
    return Inputs(photos, manifest.image, manifest.prompt, manifest.rating)


@pytest.fixture(scope="module")
def files(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> BundleFiles:
    """A reference, the same weights under another name, and another model's weights."""
    coarse = tiny.write_tower(tmp_path_factory.mktemp("coarse") / "vision.onnx", seed=9)
    llm = bundle_folder / "llm-f32.gguf"
    return BundleFiles(
        {"Q2_K": bundle_folder / "llm-other.gguf", "F32": llm, "Q8_0": llm},
        {"int8": coarse, "fp32": bundle_folder / "vision-fp32.onnx"},
    )


def rows(seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(tiny.N_IMAGE_TOKENS, tiny.N_EMBD)).astype(np.float32)


def test_the_same_weights_are_the_original_and_others_are_not(files: BundleFiles, inputs: Inputs) -> None:
    only = BundleFiles(files.llm, {"fp32": files.vision["fp32"]})
    found = compare_files(only, inputs, reason="no checkpoint", n_threads=1)
    assert (found["checked"], found["reason"]) == (False, "no checkpoint")
    assert found["reference"].startswith("F32 ")
    assert list(found["types"]) == ["Q2_K", "Q8_0"]
    same, other = found["types"]["Q8_0"], found["types"]["Q2_K"]
    assert same["n_top1_equal"] == same["n_positions"] == found["n_positions"] == 2 * 2 * N_GREEDY
    assert same["mean_kl"] < 1e-4  # keys and values in F16 round otherwise in other batches
    assert same["verdict"] == "as the original"
    assert other["verdict"] == "not usable"
    assert other["n_top1_equal"] < other["n_positions"]
    assert {record["against"] for record in found["types"].values()} == {"F32"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert compare_types(("F32", files.llm["F32"]), only, inputs, n_threads=1) == found["types"]


def test_a_worse_graph_is_measured_against_the_best_one(files: BundleFiles, inputs: Inputs) -> None:
    loose = {"int8": {"min_cosine": -1.0}}
    found = compare_files(files, inputs, reason="", vision_limits=loose, n_threads=1)["vision"]
    assert list(found) == ["int8"]
    assert found["int8"]["against"] == "fp32"
    assert found["int8"]["min_cosine"] < 0.9
    assert found["int8"]["max_score_drift"] > 0
    with pytest.raises(ParityError, match="image embeddings int8"):
        compare_files(files, inputs, reason="", n_threads=1)


def test_given_sequences_get_the_logits_of_free_running(files: BundleFiles) -> None:
    before, questions = [tiny.BOS, 5, 9], [[7, 8], [20, 21, 22]]
    with GgufRuntime(files.llm["F32"], n_threads=1) as runtime:
        image = rows()
        free = runtime.greedy(before, image, questions, 6)
        asked = [ForcedSequence(before, image, q, tokens[:-1]) for q, (tokens, _) in zip(questions, free, strict=True)]
        other = ForcedSequence(before, rows(1), questions[0], [3])
        forced = runtime.logits([asked[0], other, asked[1]])
        (alone,) = runtime.logits([other])
    assert [len(logits) for logits in forced] == [6, 2, 6]
    for (tokens, logits), found in zip(free, (forced[0], forced[2]), strict=True):
        assert logits.argmax(axis=1).tolist() == tokens
        np.testing.assert_allclose(found, logits, atol=1e-2)
    np.testing.assert_allclose(forced[1], alone, atol=1e-2)
    assert np.abs(forced[1][0] - forced[0][0]).max() > 0.1  # the image matters


def test_scores_are_those_that_users_see(bundle_folder: Path, files: BundleFiles, inputs: Inputs) -> None:
    with (
        load_model(str(bundle_folder), gguf="f32", threads=1, device="cpu") as model,
        GgufRuntime(files.llm["F32"], n_threads=1) as runtime,
    ):
        prompts = read_prompts(
            prompt_template(inputs.prompt.template),
            inputs.prompt.critique,
            inputs.rating,
            runtime.model.bos,
            runtime.model.tokenize,
        )
        with model.look(inputs.photos[0][1]) as photo:
            expected = photo.rate([inputs.rating.question])[0].score
            images = photo.image_embeddings
        first, *beginnings = runtime.logits([prompts.answers(images, [[], []])[0], *prompts.beginnings(images)])
    assert len(beginnings) == 1  # Med|ium; the other labels are one token each
    assert prompts.score(first[0], beginnings) == pytest.approx(expected, abs=1e-3)


def test_the_most_precise_file_is_the_reference(tmp_path: Path) -> None:
    sizes = {"Q4_K_M": 40, "BF16": 161, "F16": 160, "Q8_0": 85, "MXFP4": 30}
    paths = {name: tmp_path / name for name in sizes}
    for name, n_bytes in sizes.items():
        paths[name].write_bytes(bytes(n_bytes))
    order = []
    while paths:
        order.append(most_precise(paths))
        del paths[order[-1]]
    assert order == ["F16", "BF16", "Q8_0", "Q4_K_M", "MXFP4"]


def test_another_vocabulary_has_no_verdict(
    files: BundleFiles, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = expect(("F32", files.llm["F32"]), [rows()], inputs, n_threads=1)
    tokens, scores, types = tiny.vocabulary()
    one, other = tokens.index("a"), tokens.index("e")
    tokens[one], tokens[other] = tokens[other], tokens[one]
    monkeypatch.setattr(tiny, "vocabulary", lambda: (tokens, scores, types))
    path = tiny.write_gguf(tmp_path / "other.gguf")
    with pytest.raises(ParityError, match=r"prompt tokens.*do not have one vocabulary"):
        measure_file(path, expected, n_threads=1)


def test_figures_that_are_not_finite_are_refused(
    files: BundleFiles, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = expect(("F32", files.llm["F32"]), [rows()], inputs, n_threads=1)
    monkeypatch.setattr(
        GgufRuntime,
        "logits",
        lambda self, asked, _progress: [np.full((N_GREEDY, 3), np.nan, np.float32) for _ in asked],
    )
    with pytest.raises(ParityError, match="not finite"):
        measure_file(files.llm["F32"], expected, n_threads=1)


def test_no_pytorch_is_loaded() -> None:
    code = (
        "import sys, aesedge_export.parity.self_proof\n"
        "sys.exit(bool({'torch', 'transformers', 'optimum'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
