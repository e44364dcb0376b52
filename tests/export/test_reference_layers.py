"""PyTorch layer by layer answers as transformers' whole model does, and reads the checkpoint once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import numpy as np
import tiny_llava
import torch
from aesedge_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from aesedge_export.parity.forced import ForcedSequence
from aesedge_export.parity.reference import Reference
from whole_reference import WholeReference

from aesedge.image import read_image
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

pytestmark = pytest.mark.export

TOLERANCE = 1e-5  # relative to the spread of the reference's values; 4e-7 was measured


def sequences(images: list[npt.NDArray[np.float32]]) -> list[ForcedSequence]:
    """Two questions on each image, and one of them once more with another continuation."""
    asked = [([7, 8, 9], list(range(20, 32))), ([33, 34], [5]), ([7, 8, 9], [])]
    return [ForcedSequence([1, 5, 9], rows, after, continuation) for rows in images for after, continuation in asked]


def differ(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.ptp(theirs))


STRETCHED = {"num_key_value_heads": 2, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
CASES = [
    pytest.param("hf", {}, id="hf-grouped"),
    pytest.param("hf", {"num_key_value_heads": 8, "tie_word_embeddings": True, "rope_theta": 5000.0}, id="hf-tied"),
    pytest.param("hf", STRETCHED, id="hf-stretched"),
    pytest.param("original", STRETCHED, id="original-stretched"),
    pytest.param("original", {"head_dim": 64}, id="original-wide-heads"),
]


@pytest.mark.parametrize(("layout", "text"), CASES)
def test_layers_answer_as_the_whole_model(tmp_path: Path, layout: str, text: dict[str, Any]) -> None:
    folder = tiny_llava.write_hf(tmp_path / "hf", **text)
    if layout == "original":
        folder = tiny_llava.write_original(folder, tmp_path / "original")
    checkpoint = open_checkpoint(folder)
    with WholeReference(checkpoint, 1) as whole, Reference(checkpoint, 1) as layered:
        pixels = [whole.pixels(read_image(path)) for path in SAMPLE_PHOTOS]
        images, ours = whole.encode_images(pixels), layered.encode_images(pixels)
        for our, their in zip(ours, images, strict=True):
            assert differ(our, their) < TOLERANCE
        expected = whole.logits(sequences(images))
        found = layered.logits(sequences(images))
    assert [len(of_one) for of_one in found] == [13, 2, 1] * 2
    for our, their in zip(found, expected, strict=True):
        assert differ(our, their) < TOLERANCE
    assert differ(found[0], found[3]) > 100 * TOLERANCE  # photos are told apart


def test_given_continuations_get_the_logits_of_free_running(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_llava.write_hf(tmp_path / "hf"))
    with WholeReference(checkpoint, 1) as whole:
        (rows,) = whole.encode_images([whole.pixels(read_image(SAMPLE_PHOTOS[0]))])
        tokens: list[int] = []
        steps = []
        while len(tokens) < 8:
            (logits,) = whole.logits([ForcedSequence([1, 5, 9], rows, [7, 8, *tokens], [])])
            steps.append(logits[0])
            tokens.append(int(logits[0].argmax()))
        (forced,) = whole.logits([ForcedSequence([1, 5, 9], rows, [7, 8], tokens[:-1])])
    assert forced.argmax(axis=1).tolist() == tokens
    assert differ(forced, np.stack(steps)) < TOLERANCE


def test_a_sequence_does_not_see_its_neighbours(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_llava.write_hf(tmp_path / "hf"))
    rows = np.random.default_rng(0).normal(size=(16, tiny_llava.N_EMBD)).astype(np.float32)
    with Reference(checkpoint, 1) as layered:
        together = layered.logits(sequences([rows]))
        for sequence, found in zip(sequences([rows]), together, strict=True):
            (alone,) = layered.logits([sequence])
            assert differ(found, alone) < TOLERANCE


def test_every_weight_is_read_once_whatever_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(tiny_llava.write_hf(tmp_path / "hf"))
    seen: Counter[str] = Counter()
    tensor, rows = Checkpoint.tensor, Checkpoint.rows
    monkeypatch.setattr(Checkpoint, "tensor", lambda self, name: (seen.update([name]), tensor(self, name))[1])
    monkeypatch.setattr(Checkpoint, "rows", lambda self, n, a, b: (seen.update([n]), rows(self, n, a, b))[1])
    shares: list[float] = []
    with Reference(checkpoint, 1) as layered:
        pixels = [layered.pixels(read_image(path)) for path in SAMPLE_PHOTOS]
        layered.logits(sequences(layered.encode_images(pixels)), shares.append)
    assert set(seen) == set(checkpoint.architecture.expected_shapes())
    assert set(seen.values()) == {1}
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_process_gets_its_threads_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    with Reference(open_checkpoint(tiny_llava.write_hf(tmp_path / "hf")), before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
