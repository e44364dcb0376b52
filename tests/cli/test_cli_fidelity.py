"""``aesedge info`` shows what was measured at export: new figures, old figures and none, 80 columns wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tiny

from aesedge.bundle.bundle import POCKET, open_bundle
from aesedge.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TYPE = {
    "n_bytes": 4_081_004_544,
    "against": "PyTorch",
    "mean_kl": 0.012686,
    "max_kl": 0.2,
    "n_top1_equal": 121,
    "n_positions": 128,
    "mean_score_drift": 0.05,
    "max_score_drift": 0.1234,
    "verdict": "close",
}
PROVEN = {
    "checked": True,
    "reference": "transformers 4.57.6 layer by layer from disk, float32, weights read by aesedge",
    "photos": ["china.jpg", "flower.jpg"],
    "n_positions": 128,
    "stages": [
        {"stage": "pixels", "figures": {"max_abs_diff": 0.0}, "limits": {"max_abs_diff": 1e-5}},
        {
            "stage": "first-token logits",
            "figures": {"mean_kl": 7.0123e-06, "max_relative_diff": 0.0023},
            "limits": {"mean_kl": 0.001, "max_relative_diff": 0.01},
        },
        {
            "stage": "greedy tokens",
            "figures": {"n_equal": 32, "min_share_equal_or_tied": 1.0},
            "limits": {"min_share_equal_or_tied": 0.97},
        },
    ],
    "types": {
        "F16": {**TYPE, "n_bytes": 13_478_112_256, "mean_kl": 2.5e-05, "verdict": "as the original"},
        "Q4_K_M": {
            **TYPE,
            "verdict": "noticeably different",
            "without_importance": {"mean_kl": 0.0314, "n_top1_equal": 117, "max_score_drift": 0.31, "verdict": "close"},
            "stored_otherwise": {"blk.0.attn_k.weight": "Q8_0", "blk.1.attn_k.weight": "Q8_0"},
        },
    },
    "vision": {
        "fp32": {"min_cosine": 0.9999998, "max_relative_diff": 2e-6, "max_score_drift": 0.0004, "against": "PyTorch"},
        "int8": {
            "min_cosine": 0.99712,
            "max_relative_diff": 0.04,
            "max_score_drift": 0.21,
            "against": "PyTorch",
            "limits": {"min_cosine": 0.99},
            "layers_in_fp32": [f"encoder.layers.{i}.mlp.fc2" for i in range(4)],
        },
    },
    "verdicts": {"close": {"mean_kl": 0.035, "max_score_drift": 0.3}},
}


def shown(folder: Path, capsys: pytest.CaptureFixture[str], fidelity: dict[str, Any]) -> list[str]:
    path = tiny.write_gguf(folder / "llm.gguf")
    tower = tiny.write_tower(folder / "vision.onnx")
    files = [tiny.described(tower, "vision", "fp32"), tiny.described(path, "llm", "F32")]
    tiny.write_manifest(folder, files, fidelity=fidelity)
    assert main(["info", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("compared with"))
    assert max(map(len, lines[start:])) <= 80
    return lines[start:]


def row(lines: list[str], name: str) -> list[str]:
    return next(line.split() for line in lines if line.split()[:1] == [name])


def test_every_stage_stands_beside_its_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(tmp_path, capsys, PROVEN)
    assert row(lines, "pixels") == ["pixels", "max", "abs", "diff", "0", "at", "most", "1e-05"]
    assert any(
        line.split() == ["mean", "kl", "7.01e-06", "at", "most", "0.001"] or "7.01e-06" in line for line in lines
    )
    assert any("min share equal or tied" in line and line.endswith("at least 0.97") for line in lines)
    assert "weights read by aesedge" in " ".join(" ".join(lines[:3]).split())
    assert any("128 next-token distributions" in line for line in lines)


def test_every_type_has_its_verdict_and_what_importance_bought(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(tmp_path, capsys, PROVEN)
    assert row(lines, "f16")[1:] == ["13.5", "GB", "2.5e-05", "94.5", "%", "0.123", "as", "the", "original", "PyTorch"]
    assert row(lines, "q4_k_m")[-3:] == ["noticeably", "different", "PyTorch"]
    assert row(lines, "no")[2:6] == ["0.0314", "91.4", "%", "0.310"]
    assert any("2 tensors do not fit it and are q8_0" in line for line in lines)
    assert any(line.startswith("close: mean KL at most 0.035") for line in lines)
    assert row(lines, "int8")[-3:] == ["0.04", "0.210", "PyTorch"]
    assert row(lines, "int8")[1:3] == ["0.99712", "0.99"]
    assert any(line.startswith("int8 keeps in fp32: encoder.layers.0") for line in lines)


def test_what_was_not_compared_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(tmp_path, capsys, {"checked": False, "reason": "--no-parity", "types": {}})
    assert lines[0].split() == ["compared", "with", "nothing"]
    assert lines[1].strip() == "not with PyTorch: --no-parity"


def test_figures_that_nobody_knows_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = {"checked": True, "reference": "PyTorch", "importance": {"photos": ["a.jpg"] * 20}}
    lines = shown(tmp_path, capsys, {**known, "calibration": {"kept": {"layer 3": "fp32"}}})
    assert lines[0].split() == ["compared", "with", "PyTorch"]
    assert any(line.startswith("importance on  a.jpg, a.jpg") for line in lines)
    assert not any("calibration" in line for line in lines)


def test_bundles_of_before_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    fidelity = open_bundle(POCKET).manifest.fidelity
    assert main(["info", "pocket"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for gguf_type in fidelity.types:
        assert "%" in row(lines[lines.index(next(x for x in lines if x.startswith("compared"))) :], gguf_type.lower())
    assert any(line.startswith("greedy tokens") for line in lines)
