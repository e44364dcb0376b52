"""The doctor finds what is wrong, by name, and finds nothing where nothing is: every defect here is in real code."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from conftest import drawn_photo

from aesedge.bundle.bundle import open_bundle
from aesedge.cache import DiskStore, EmbeddingCache, entry_file
from aesedge.cli import main
from aesedge.config.options import Options
from aesedge.doctor import cache_faults
from aesedge.doctor.batch_noise import noise_floors
from aesedge.doctor.bundle_under_test import BundleUnderTest, ColdReference, photos_for
from aesedge.doctor.cache_faults import check_concurrency, damaged, unsound, use_cache
from aesedge.doctor.difference import LEAST_NLL, Check, Difference, Floors, Limits
from aesedge.doctor.reuse_checks import Reuse, check_distinguishable, swapped
from aesedge.llm import Context
from aesedge.scheduling.kv_cache import SequenceCache
from aesedge.vision import encoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def quiet(_fraction: float) -> None:
    pass


class Examination:
    """What every part of the examination needs, read once for all tests."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        paths = [folder / f"{seed}.png" for seed in range(3)]
        for seed, path in enumerate(paths):
            drawn_photo(seed).save(path)
        self.photos = paths
        self.patient = BundleUnderTest(open_bundle(bundle), Options(threads=1, device="cpu"), folder)
        self.cold = ColdReference(self.patient)
        self.floors = noise_floors(self.patient, self.cold, paths, quiet)
        for path in paths:
            self.cold.seen(path)

    def reuse(self) -> list[Check]:
        return Reuse(self.patient, self.cold, self.floors, self.photos).examine(quiet)

    def swap(self) -> list[Check]:
        return swapped(self.patient, self.cold, self.floors.same, self.photos, quiet)

    def damage(self) -> list[Check]:
        return damaged(self.patient, self.cold, self.floors.same, self.photos, quiet)

    def visit(self, patient: BundleUnderTest | None = None) -> list[Check]:
        return check_concurrency(patient or self.patient, self.cold, self.floors.same, self.photos, quiet)


@pytest.fixture(scope="module")
def examination(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examination]:
    folder = tmp_path_factory.mktemp("examination")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AESEDGE_CACHE", str(folder / "own"))
        yield Examination(bundle_folder, folder)


def failures(checks: Sequence[Check]) -> dict[str, str]:
    return {check.name: check.problem for check in checks if not check.passed}


def test_nothing_is_wrong_with_the_engine(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("AESEDGE_CACHE", str(tmp_path / "own"))
    own = DiskStore(tmp_path / "own" / "embeddings", kind="embeddings", budget_bytes=None)
    own.put("0" * 64, b"the user's")
    code = main(["doctor", "--reuse", "--json", "--threads", "1", "--bundle", str(bundle_folder)])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert found["ok"]
    assert len(found["photos"]) == 3
    assert {c["group"] for c in found["checks"]} == {"photos", "reuse", "files", "processes"}
    assert not [c for c in found["checks"] if c["problem"] or c["skipped"]]
    assert not list((tmp_path / "temporary").iterdir())
    assert [entry.key for entry in own.entries()] == ["0" * 64]
    assert {path.name for path in (tmp_path / "own").iterdir()} <= {"hashes.json", "embeddings", "proven"}


def test_noise_of_the_same_batches_is_the_lower_one(examination: Examination) -> None:
    same, other = examination.floors.same.noise, examination.floors.other.noise
    assert same.nll is not None
    assert other.nll is not None
    assert same.nll < LEAST_NLL / 10  # the bits are the same, or the cells that attention adds up together are others
    assert same.nll < other.nll < 0.01


def test_photos_that_are_alike_prove_nothing(examination: Examination) -> None:
    apart = check_distinguishable(examination.cold, examination.floors, examination.photos)
    assert apart.passed
    alike = check_distinguishable(examination.cold, examination.floors, [*examination.photos, examination.photos[0]])
    assert "proves nothing" in alike.problem


def test_one_key_for_all_photos_is_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aesedge.vision.encoder.pixels_digest", lambda _pixels: "0" * 64)
    assert "answers change" in failures(examination.reuse())["image in the cache, asked again"]
    assert "answers change" in failures(examination.swap())["looked at again, there and back"]


def test_one_key_for_all_pinned_photos_is_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    from aesedge.scheduling import kv_states_on_disk

    real = kv_states_on_disk.kv_key

    def blind(**parts: Any) -> str:
        return real(**{**parts, "embeddings": parts["embeddings"] and "0" * 64})

    monkeypatch.setattr(kv_states_on_disk, "kv_key", blind)
    found = failures(examination.reuse())
    assert "was kv" in found["embeddings from disk"]


def test_the_wrong_image_in_the_kv_cache_is_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SequenceCache._forked

    def confused(self: SequenceCache, image: Any, forks: list[int]) -> list[int]:
        others = [r for r in self._resident_entries if r is not image and hasattr(r, "rows")]
        return real(self, others[0] if others else image, forks)

    monkeypatch.setattr(SequenceCache, "_forked", confused)
    assert "answers change" in failures(examination.reuse())["image in the cache, asked again"]


def test_an_image_that_comes_back_as_another_is_found(
    examination: Examination, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SequenceCache._load
    rows: list[Any] = []

    def confused(self: SequenceCache, images: Any, n_forks: int, n_cells: int) -> Any:
        (image,) = images
        rows.append(image.rows)
        image.rows = rows[0] if len(rows) > 3 else image.rows
        return real(self, images, n_forks, n_cells)

    monkeypatch.setattr(SequenceCache, "_load", confused)
    (orders,) = (problem for name, problem in failures(examination.swap()).items() if "orders" in name)
    assert "answers change" in orders


def test_a_cache_that_never_hits_proves_nothing(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddingCache, "get", lambda _self, _key: None)
    monkeypatch.setattr("aesedge.scheduling.kv_states_on_disk.KVStateStore.restore", lambda *_: False)
    found = failures(examination.reuse())
    assert set(found) == {
        "embeddings in memory",
        "text before the image, from disk",
        "embeddings from disk",
        "pinned KV from disk",
    }
    assert "was cold" in found["embeddings in memory"]


def test_images_that_never_leave_are_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aesedge.engine.photo.Photo.close", lambda _self: None)
    assert failures(examination.reuse()) == {"image left the cache, came back": "the image would not leave"}


def test_kv_that_is_kept_a_little_wrong_is_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Context.save

    def lossy(self: Context, seq_id: int) -> Any:
        state = real(self, seq_id)
        half = state[-(len(state) // 16 * 2) :].view(np.float16)
        half[np.isfinite(half)] *= np.float16(1.02)
        return state

    monkeypatch.setattr(Context, "save", lossy)
    assert "answers change" in failures(examination.reuse())["pinned KV from disk"]


def lenient(file: Any, *, key: str, kind: str) -> Any:
    """Read an entry as it is, whatever its version, its key, its kind and its checksums."""
    head = entry_file._PREAMBLE.unpack(file.read(entry_file._PREAMBLE.size))
    header = msgspec.json.decode(file.read(head[2]))
    return entry_file.Entry(key, kind, header["metadata"], np.frombuffer(file.read(), np.uint8).copy())


def test_damaged_files_that_are_believed_are_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(file: Any, *, key: str, kind: str) -> Any:
        try:
            return lenient(file, key=key, kind=kind)
        except (OSError, ValueError, msgspec.MsgspecError, struct.error) as error:
            raise entry_file.DamagedEntry(str(error)) from None

    for reader in ("read_entry", "read_header"):
        monkeypatch.setattr(f"aesedge.cache.disk_store.{reader}", look)
    found = failures(examination.damage())
    for name in ("a bit of the content flipped", "another photo's file", "an older version's file"):
        assert "was believed" in found[name]


def test_damaged_files_that_stay_are_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {path: cache_faults._keep(examination.patient, path) for path in examination.photos[:2]}
    monkeypatch.setattr(cache_faults, "_keep", lambda _patient, path: kept[path])
    monkeypatch.setattr(DiskStore, "_drop", lambda *_: None)
    monkeypatch.setattr(DiskStore, "put", lambda *_, **__: True)
    found = failures(examination.damage())
    assert len(found) == len(cache_faults.DAMAGES)
    assert all("still on disk" in problem for problem in found.values())


def test_a_damage_that_is_told_of_too_often_is_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    def chatty(_self: DiskStore, _what: str, message: str) -> None:
        logging.getLogger("aesedge").warning("%s", message)

    monkeypatch.setattr(DiskStore, "_warn_once", chatty)
    assert any(
        "remarks about damaged kv instead of one" in problem for problem in failures(examination.damage()).values()
    )


def lie(*given: Any) -> None:
    encoder.pixels_digest = lambda _pixels: "0" * 64
    use_cache(*given)


def die(*_given: Any) -> None:
    sys.exit(7)


def test_a_process_that_answers_otherwise_is_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_faults, "use_cache", lie)
    found = failures(examination.visit())
    assert len(found) == 2
    assert all("answers change" in problem for problem in found.values())


def test_a_process_that_dies_is_found(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_faults, "use_cache", die)
    assert all("ended with code 7" in problem for problem in failures(examination.visit()).values())


def test_two_models_that_do_not_fit_are_not_examined(examination: Examination) -> None:
    import dataclasses

    small = dataclasses.replace(examination.patient, options=Options(threads=1, device="cpu", memory="1MB"))
    checks = examination.visit(small)
    assert all("do not fit" in check.skipped and check.passed for check in checks)


def test_a_folder_that_is_unsound_is_found(tmp_path: Path) -> None:
    assert "proves nothing" in unsound(tmp_path)
    for kind in ("embeddings", "kv"):
        DiskStore(tmp_path / kind, kind=kind, budget_bytes=None).put("0" * 64, b"something")
    assert unsound(tmp_path) == ""
    (path,) = (tmp_path / "kv").glob("*.entry")
    path.write_bytes(path.read_bytes()[:-1])
    assert "kv" in unsound(tmp_path)


def test_no_number_is_too_much() -> None:
    limits = Limits(Difference(nll=0.0, points=0.0))
    assert limits.problem(Difference(nll=float("nan"), points=0.0, same_bits=False))
    assert limits.problem(Difference(nll=0.0, same_bits=False) | Difference(nll=float("nan"), same_bits=False))
    assert limits.problem(Difference(nll=LEAST_NLL * 1.01, same_bits=False))
    assert not limits.problem(Difference(nll=LEAST_NLL, same_bits=False))
    assert Floors(limits, limits, limits).same is limits


def test_there_are_three_photos_and_they_are_not_the_same(tmp_path: Path) -> None:
    paths = photos_for([], tmp_path)
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in paths}) == 3
    (given,) = paths[:1]
    assert photos_for([given], tmp_path)[0] == given
    assert len(set(photos_for([given], tmp_path))) == 3
