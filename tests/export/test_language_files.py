"""The language files of a bundle: one pass without photos, two with them, and the better of both is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import gguf
import numpy as np
import tiny_llava
from aesedge_export.checkpoint.checkpoint import open_checkpoint
from aesedge_export.language.checkpoint_source import CheckpointSource
from aesedge_export.language.imatrix_file import read_imatrix
from aesedge_export.language.importance import Importance
from aesedge_export.language.language_files import LanguageFiles, keep_the_better, language_files, work_bytes
from aesedge_export.progress import silent

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    folder = tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny")
    return CheckpointSource(open_checkpoint(folder), name="tiny")


def uneven(path: Path) -> Importance:
    """Return an importance that makes a difference, as if it had been gathered on a file."""
    random = np.random.default_rng(0)
    names = [t for t in gguf.GGUFReader(path).tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    values = {t.name: random.lognormal(0, 2, int(t.shape[0])).astype(np.float32) for t in names}
    return Importance(values=values, n_rows=dict.fromkeys(values, 7), photos=("a.jpg",))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_without_photos_there_is_one_file_for_each_type(source: CheckpointSource, tmp_path: Path) -> None:
    types = ["Q8_0", "Q4_0"]
    with language_files(source, types, tmp_path, n_threads=1, report=silent) as files:
        assert files.imatrix is None
        assert not files.without_importance
        assert size_of(tmp_path) == work_bytes(source, types, calibrated=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llm-q4_0.gguf", "llm-q8_0.gguf"]


@pytest.mark.parametrize("types", [["Q4_K_M", "Q2_K"], ["Q8_0", "Q4_K_M"]])
def test_importance_is_measured_on_a_precise_file_and_used_below_it(
    source: CheckpointSource, tmp_path: Path, types: list[str]
) -> None:
    watched: list[str] = []
    most_bytes = 0

    def gather(path: Path) -> Importance:
        nonlocal most_bytes
        watched.append(gguf.GGUFReader(path).get_field("general.file_type").contents())
        most_bytes = size_of(tmp_path)
        return uneven(path)

    with language_files(source, types, tmp_path, gather=gather, n_threads=1, report=silent) as files:
        most_bytes = max(most_bytes, size_of(tmp_path) - files.imatrix.stat().st_size)
        assert list(files.llm) == types
        for gguf_type, plain in files.without_importance.items():
            assert plain.read_bytes() != files.llm[gguf_type].read_bytes()
    assert watched == [gguf.LlamaFileType.MOSTLY_Q8_0]
    assert most_bytes <= work_bytes(source, types, calibrated=True)
    wanted = sorted(["importance.gguf", *(f"llm-{t.lower()}.gguf" for t in types)])
    assert sorted(path.name for path in tmp_path.iterdir()) == wanted
    assert read_imatrix(tmp_path / "importance.gguf").photos == ("a.jpg",)


def test_precise_types_alone_are_not_calibrated(source: CheckpointSource, tmp_path: Path) -> None:
    def gather(_path: Path) -> Importance:
        pytest.fail("nothing would use it")

    with language_files(source, ["F16", "Q8_0"], tmp_path, gather=gather, n_threads=1, report=silent) as files:
        assert files.imatrix is None


@pytest.mark.parametrize(("with_it", "without_it"), [(0.1, 0.2), (0.2, 0.1)])
def test_the_better_file_is_kept_with_its_own_figures(tmp_path: Path, with_it: float, without_it: float) -> None:
    kept, plain = tmp_path / "llm-q2_k.gguf", tmp_path / "plain.gguf"
    kept.write_bytes(b"weighted")
    plain.write_bytes(b"plain")
    figures = {"mean_kl": with_it, "n_bytes": 8, "against": "F16", "without_importance": {"mean_kl": without_it}}
    types = {"Q2_K": figures}
    keep_the_better(LanguageFiles({"Q2_K": kept}, {}, without_importance={"Q2_K": plain}), types)
    if with_it < without_it:
        assert kept.read_bytes() == b"weighted"
        assert types == {"Q2_K": figures}
        assert figures["mean_kl"] == with_it
    else:
        assert kept.read_bytes() == b"plain"
        record = {"mean_kl": without_it, "n_bytes": 5, "against": "F16", "with_importance": {"mean_kl": with_it}}
        assert types == {"Q2_K": record}
