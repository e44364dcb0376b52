"""POST /v1/photo: what the Python API finds, whole and as events; and what is no photo."""

from __future__ import annotations

import io
import json
from pathlib import Path

import jsonschema
import pytest
from conftest import drawn_photo
from PIL import Image
from serving import Running, jpeg

from aesedge.engine.model import load_model
from aesedge.samples import SAMPLE_PHOTOS

SCHEMA = Path(__file__).parents[2] / "docs" / "photo-result.schema.json"


def test_result_is_that_of_the_python_api(served: Running) -> None:
    data = SAMPLE_PHOTOS[0].read_bytes()
    answer = served.photo(data)
    assert answer.status == 200
    found = answer.json()
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    with load_model("pocket", threads=1, device="cpu") as model, model.look(data) as photo:
        rating, attributes = photo.score_and_attributes()
        critique = photo.critique().text
    assert found["score"] == pytest.approx(rating.score, abs=1e-3)
    assert {name: one["score"] for name, one in found["attributes"].items()} == pytest.approx(
        {name: one.score for name, one in attributes.items()}, abs=1e-3
    )
    assert found["critique"] == critique
    assert (found["cache"], found["finish_reason"]) == ("cold", "stop")
    assert found["timings"]["n_generated"] > 5


def test_events_come_score_first(served: Running) -> None:
    answer = served.photo(jpeg(1), accept="text/event-stream")
    assert answer.headers["content-type"] == "text/event-stream"
    names = [line.removeprefix("event: ") for line in answer.body.decode().split("\n") if line.startswith("event: ")]
    assert names[:3] == ["score", "attributes", "words"]
    assert names[-1] == "done"
    score, attributes, *words, done = answer.events()
    assert (score["score"], attributes) == (done["score"], done["attributes"])
    assert "".join(word["text"] for word in words) == done["critique"]


def test_words_can_be_left_out_and_asked_for(served: Running) -> None:
    scored = served.photo(jpeg(2), "?words=0").json()
    assert scored["critique"] is None
    assert scored["finish_reason"] is None
    assert scored["timings"]["n_generated"] == 0
    asked = served.photo(jpeg(2), "?ask=Is+it+sharp%3F&max_tokens=4").json()
    assert asked["answers"][0]["ask"] == "Is it sharp?"
    assert asked["answers"][0]["answer"]
    assert asked["critique"] is None
    assert asked["score"] == scored["score"]
    assert asked["timings"]["n_generated"] <= 4
    assert asked["cache"] == "kv"


def test_with_a_small_model_only_the_latest_photo_stays_in_the_kv_cache(served: Running) -> None:
    """Every cell in use lengthens the attention of all tokens; a photo that comes back is scored as before."""
    first, second, ask = jpeg(21), jpeg(22), "?ask=Is+it+sharp%3F&max_tokens=2"
    asked = [(first, "?words=0"), (second, "?words=0"), (first, ask), (first, ask)]
    results = [served.photo(photo, query).json() for photo, query in asked]
    assert [result["cache"] for result in results] == ["cold", "cold", "embeddings", "kv"]
    assert len({result["score"] for result in results}) == 2


def test_orientation_counts(served: Running) -> None:
    upright = drawn_photo(3, (96, 64))
    turned, exif = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    file, plain = io.BytesIO(), io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    upright.save(plain, "PNG")
    scores = [served.photo(data.getvalue(), "?words=0", content_type="image/png").json() for data in (plain, file)]
    assert scores[0]["score"] == scores[1]["score"]
    assert scores[1]["cache"] == "kv"  # the same pixels


def test_remarks_about_the_file_come_with_the_result(served: Running) -> None:
    (remark,) = served.photo(jpeg(4)[:-2], "?words=0").json()["remarks"]
    assert "end marker" in remark


def frames() -> bytes:
    file = io.BytesIO()
    drawn_photo(1).save(file, "GIF", save_all=True, append_images=[drawn_photo(i) for i in range(2, 40)])
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "bad_image"),
        (b"no image", 400, "bad_image"),
        (jpeg()[:200], 400, "bad_image"),
        (b"\xff\xd8\xff" + bytes(300), 400, "bad_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "bad_image"),
        (b"FUJIFILMCCD-RAW" + bytes(300), 415, "image_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400, "bad_image"),
    ],
)
def test_what_is_no_photo_is_refused(served: Running, data: bytes, status: int, code: str) -> None:
    answer = served.photo(data)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert "pillow" not in answer.body.decode().lower()
    assert "0x" not in answer.body.decode()


@pytest.mark.parametrize("size", [(1, 1), (1, 600), (600, 1)])
def test_tiny_photos_are_answered(served: Running, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.new("L", size).save(file, "PNG")
    assert served.photo(file.getvalue(), "?words=0", content_type="image/png").status == 200


def test_one_frame_of_an_animation_is_seen(served: Running) -> None:
    assert served.photo(frames(), "?words=0", content_type="image/gif").status == 200


def test_pixels_have_a_limit(served: Running) -> None:
    file = io.BytesIO()
    Image.new("1", (9000, 8000)).save(file, "PNG")
    answer = served.photo(file.getvalue(), "?words=0", content_type="image/png")
    assert (answer.status, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "query", ["?words=maybe", "?max_tokens=0", "?max_tokens=-1", "?max_tokens=99999999999", "?x=1"]
)
def test_queries_are_checked(served: Running, query: str) -> None:
    answer = served.photo(jpeg(), query)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "invalid_value")


def test_equal_beginnings_are_different_photos(served: Running) -> None:
    """Keys over the first letters of a file would answer for another photo (vllm-mlx#126)."""
    one, other = drawn_photo(5, (64, 64)), drawn_photo(5, (64, 64))
    other.paste((255, 0, 0), (0, 32, 64, 64))
    scores = []
    for image in (one, other):
        file = io.BytesIO()
        image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(file, "BMP")  # the lower rows stand first in the file
        scores.append(served.photo(file.getvalue(), "?words=0", content_type="image/bmp").json())
    assert scores[0]["score"] != scores[1]["score"]
    assert scores[1]["cache"] == "cold"
