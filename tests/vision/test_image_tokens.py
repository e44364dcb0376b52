"""Fewer image tokens at run time: chosen by number or by what was measured on photos, and never mistaken for others."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import drawn_photo, open_tiny
from PIL import Image

import aesedge
from aesedge.bundle.bundle import open_bundle, replace_manifest
from aesedge.bundle.manifest import AUTO_NLL_CHANGE, AUTO_SCORE_DRIFT, ImageTokens, TokenPoint
from aesedge.cli import main
from aesedge.errors import BundleError, UsageError
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.tuning.token_curve import budgets

POCKET = Path(aesedge.__file__).parent / "pocket"
ALL = 144


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of pocket that a user may write into."""
    return shutil.copytree(POCKET, tmp_path / "own")


def point(n: int, drift: float, nll: float = 0.0) -> TokenPoint:
    return TokenPoint(n=n, score_drift=drift, worst_score_drift=2 * drift, nll_change=nll, n_photos=3)


@pytest.mark.parametrize("n", [ALL, 49, 16])
def test_a_photo_takes_as_many_positions_as_are_asked_for(n: int) -> None:
    with open_tiny("pocket") as model, model.look(SAMPLE_PHOTOS[0], image_tokens=n) as photo:
        assert photo.internals.image.n_rows == len(photo.image_embeddings) == n
        score, attributes = photo.score_and_attributes()
        assert photo.result(score, attributes).image_tokens == n
        assert photo.critique().text
    with open_tiny("pocket", image_tokens=n) as model, model.look(SAMPLE_PHOTOS[0]) as photo:
        assert photo.score_and_attributes() == (score, attributes)


def test_what_is_kept_of_one_number_never_answers_for_another(tmp_path: Path) -> None:
    options = {"cache_folder": tmp_path, "worth_keeping_s": 0.0}
    with open_tiny("pocket", **options) as model:
        rows, states = [], []
        for n in (ALL, 49, 48, ALL, 49):
            with model.look(drawn_photo(), image_tokens=n) as photo:
                rows.append(photo.image_embeddings)
                states.append(photo.cache_state)
                photo.pin()
    assert states[:3] == ["cold"] * 3
    assert "cold" not in states[3:]
    assert [len(of_one) for of_one in rows] == [ALL, 49, 48, ALL, 49]
    assert np.array_equal(rows[0], rows[3])
    assert np.array_equal(rows[1], rows[4])
    with open_tiny("pocket", image_tokens=48, **options) as model, model.look(drawn_photo()) as photo:
        assert photo.cache_state == "kv"
        assert np.array_equal(photo.image_embeddings, rows[2])


@pytest.mark.parametrize("wrong", [0, 15, 197])
def test_numbers_that_the_bundle_cannot_make_are_refused(wrong: int) -> None:
    with pytest.raises(UsageError, match=r"16 to 144 image tokens|1 or more"):
        open_tiny("pocket", image_tokens=wrong)
    with open_tiny("pocket") as model, pytest.raises(UsageError, match=r"16 to 144 image tokens|1 or more|at most 144"):
        model.look(SAMPLE_PHOTOS[0], image_tokens=wrong)


def test_auto_takes_the_fewest_up_to_which_all_is_within_the_tolerance() -> None:
    well, ill = AUTO_SCORE_DRIFT / 2, AUTO_SCORE_DRIFT * 2
    curve = [point(108, well), point(98, well), point(49, ill), point(16, well)]
    assert ImageTokens(min=16, max=ALL, method="cells", curve=curve).auto() == 98
    assert ImageTokens(min=16, max=ALL, method="cells", curve=curve[::-1]).auto() == 98
    assert ImageTokens(min=16, max=ALL, method="cells", curve=[point(108, ill)]).auto() == ALL
    assert ImageTokens(min=16, max=ALL, method="cells", curve=[point(108, well, 2 * AUTO_NLL_CHANGE)]).auto() == ALL
    assert ImageTokens(min=16, max=ALL, method="cells").auto() == ALL


def test_budgets_are_within_the_bundle_s_range() -> None:
    assert budgets(16, 576) == [576, 432, 288, 192, 144, 96, 64, 36, 16]
    assert budgets(16, 196) == [196, 147, 98, 65, 49, 33, 22, 16]
    assert budgets(4, 4) == [4]


def test_quality_is_measured_on_photos_and_written_into_the_bundle(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, plot = [str(path) for path in SAMPLE_PHOTOS], tmp_path / "curve.png"
    quality = [word for photo in photos for word in ("--quality", photo)]
    draws = find_spec("matplotlib") is not None  # of the extra plot
    assert main(["tune", "-b", str(own), *quality, *(["--plot", str(plot)] if draws else [])]) == 0
    shown = capsys.readouterr().out
    tokens = open_bundle(own).manifest.image_tokens
    assert [p.n for p in tokens.curve] == budgets(16, ALL)[1:]
    assert all(p.n_photos == 2 and 0 < p.score_drift <= p.worst_score_drift < 10 for p in tokens.curve)
    for words in ("image tokens", "108", "nats/token", "on 2 photos", "written into"):
        assert words in shown
    if draws:
        with Image.open(plot) as image:
            assert image.size[0] > 1000
    assert main(["verify", str(own)]) == 0
    assert main(["info", str(own)]) == 0
    assert "worst photo" in capsys.readouterr().out
    assert main(["score", photos[0], "--bundle", str(own), "--image-tokens", "auto", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image_tokens"] == tokens.auto()


def test_auto_without_a_measurement_takes_all_and_says_so(capsys: pytest.CaptureFixture[str], own: Path) -> None:
    bundle = open_bundle(own)
    tokens = ImageTokens(min=16, max=ALL, method="copies")
    replace_manifest(bundle, msgspec.structs.replace(bundle.manifest, image_tokens=tokens))
    assert main(["score", str(SAMPLE_PHOTOS[0]), "--bundle", str(own), "--image-tokens", "auto", "--json"]) == 0
    found = capsys.readouterr()
    assert json.loads(found.out)["image_tokens"] == ALL
    assert "nobody measured" in found.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quality", "none.jpg"], "none.jpg: there is no such file"),
        (["--plot", "a.png"], "name photos with --quality"),
    ],
)
def test_what_quality_cannot_use_is_said(
    own: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (own / "manifest.json").read_bytes()
    assert main(["tune", str(own), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert (own / "manifest.json").read_bytes() == before


def test_bundles_that_cannot_reduce_say_so(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(bundle_folder), "--quality", str(SAMPLE_PHOTOS[0])]) == 2
    assert "cannot reduce them; export it again" in capsys.readouterr().err


def test_a_manifest_that_cannot_be_written_stays(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(own)
    before = (own / "manifest.json").read_bytes()

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be written: No space left"):
        replace_manifest(bundle, bundle.manifest)
    assert (own / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in own.iterdir()) == sorted(path.name for path in POCKET.iterdir())
