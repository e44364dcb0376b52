"""Results as a run of the benchmark finds them, written by hand: nothing is measured here."""

from __future__ import annotations

from typing import Any

from aesedge.bench.result import Against, Prediction, Quality, Result, Row, RunInfo

HARDWARE = {
    "system": "Linux 6.18",
    "architecture": "x86_64",
    "cpu": "AMD EPYC",
    "n_physical": 2,
    "n_logical": 2,
    "n_usable": 2,
    "instructions": ["AVX2", "AVX512_VNNI"],
    "ram_bytes": 25_276_514_304,
    "ram_free_bytes": 24_180_023_296,
    "gpus": [],
    "is_virtual": True,
}
PLAN = {
    "gguf": "q4_k_m",
    "vision": "int8",
    "n_image_tokens": 576,
    "kv_type": "f16",
    "flash_attention": True,
    "repack": True,
    "n_ubatch": 256,
    "threads": 2,
    "threads_batch": 2,
    "threads_vision": 2,
    "n_ctx": 1760,
    "n_batch": 1024,
    "n_gpu_layers": 0,
}


def spread(median_s: float, *, n: int = 5, by: float = 0.01) -> list[int]:
    """Return repetitions around a median, evenly over as much of it to either side."""
    middle = (n - 1) / 2
    return [round(median_s * 1e9 * (1 + by * (i - middle) / max(middle, 1))) for i in range(n)]


def card(**changes: Any) -> RunInfo:
    facts = {
        "started_at": "2026-11-23T18:00:00+00:00",
        "took_s": 512.3,
        "aesedge": "0.1.0 (43ad983)",
        "hardware": HARDWARE,
        "libraries": {
            "llama_cpp_python": "0.3.36",
            "llama_cpp": "0.5.0-dev",
            "ggml_commit": "0c1e570-dirty",
            "backends": ["CPU"],
            "onnxruntime": "1.32.0",
            "problems": [],
        },
        "bundle": "llava-1.5-7b-shape",
        "random_weights": "llava-1.5-7b",
        "files": [
            {"role": "llm", "type": "q4_k_m", "bytes": 4_081_004_224, "sha256": "ab" * 32},
            {"role": "vision", "type": "int8", "bytes": 330_000_000, "sha256": "cd" * 32},
        ],
        "model_type": "llama 7B Q4_K - Medium",
        "model_size": 4_080_263_168,
        "model_n_params": 6_738_415_616,
        "bytes_per_token": 4_006_000_000,
        "macs_per_token": 6_476_005_376,
        "kv_bytes_per_position": 524_288,
        "backend": "CPU",
        "plan": PLAN,
        "photos": [{"name": "bridge.jpg", "width": 1024, "height": 683, "sha256": "ef" * 32}],
        "ceilings": {
            "read_bytes_per_s": 31.4e9,
            "int8_ops_per_s": 1.21e12,
            "fma_flops_per_s": None,
            "source": "AVX512",
        },
        "power": "RAPL package-0",
        "disturbances": [
            {"what": "load", "found": "1.2 of 2 cores busy with other programs", "disturbs": True, "known": True},
            {"what": "battery", "found": "none", "disturbs": False, "known": True},
        ],
        "repetitions": 5,
        "seconds": 300.0,
    }
    return RunInfo(**facts | changes)


def language(test: str, seconds: float, n: float, *, by: float = 0.01, repetitions: int = 5, **values: Any) -> Row:
    samples = spread(seconds, n=repetitions, by=by)
    return Row(test=test, group="language", unit="t", n=n, samples_ns=samples, n_warm_up=1, **values)


def ttft(state: str, parts: dict[str, float], *, by: float = 0.01, repetitions: int = 5) -> Row:
    samples = spread(sum(parts.values()), n=repetitions, by=by)
    return Row(
        test=f"ttft {state}",
        group="photo",
        cache_state=state,  # type: ignore[arg-type]
        n_gen=1,
        samples_ns=samples,
        parts_s=parts,
        excludes="loading; the text before the image, which is prefilled once",
    )


def rows() -> list[Row]:
    """Return the rows of a 7B shape on two cores."""
    tokens = "tokenizing, sampling"
    answers = {"n_depth": 611, "excludes": "the image is in the KV cache"}

    def row(test: str, group: str, seconds: float, *, repetitions: int = 5, **values: Any) -> Row:
        return Row(test=test, group=group, samples_ns=spread(seconds, n=repetitions), **values)  # type: ignore[arg-type]

    cold = {"decode_image_s": 0.012, "vision_s": 2.31, "prefill_s": 24.6, "first_token_s": 1.31}
    return [
        row("load", "load", 4.2, repetitions=2, excludes="reading the disk: the files were read before", n_warm_up=1),
        Row(test="peak RSS", group="memory", n_bytes=5_209_372_160),
        Row(test="device memory", group="memory", n_bytes=0),
        row("decode image", "image", 0.0098, n=0.7, unit="MP"),
        row("decode image 12 MP", "image", 0.061, n=12.0, unit="MP"),
        row("preprocess", "image", 0.0021, unit="photos", excludes="decoding"),
        row("vision int8", "image", 2.31, unit="photos", n_prompt=576, excludes="preprocessing"),
        language(
            "pp576", 23.9, 576, n_prompt=576, excludes=tokens, percent_of={"int8 peak": 26.2}, watts=41.0
        ),
        language("pp576 img", 24.6, 576, n_prompt=576, excludes="the vision tower", percent_of={"int8 peak": 25.5}),
        language("tg128", 21.1, 128, n_gen=128, excludes=tokens, percent_of={"read bandwidth": 78.0}),
        language(
            "tg128 @ d640", 22.6, 128, n_gen=128, n_depth=640, excludes=tokens, percent_of={"read bandwidth": 79.1}
        ),
        language("q1x32 @ img", 5.9, 32, n_gen=32, n_prompt=12, **answers),
        language("q4x32 @ img", 9.1, 128, n_gen=32, n_prompt=48, n_parallel=4, **answers),
        row("score @ img", "photo", 1.02, unit="questions", **answers),
        row("score5 @ img", "photo", 2.9, n=5, unit="questions", **answers),
        ttft("cold", cold),
        ttft("embeddings", cold | {"vision_s": 0.0}),
        ttft("kv", {"first_token_s": 1.31}),
        row("photos score", "photo", 28.9, n=1, unit="photos", per_minute=True, cache_state="cold", repetitions=3),
        row(
            "photos critique", "photo", 44.3, n=1, unit="photos", per_minute=True, cache_state="cold", repetitions=3,
            n_gen=64,
        ),
    ]  # fmt: skip


def result(**changes: Any) -> Result:
    """Return a whole result, with everything that there can be."""
    parts = {
        "card": card(),
        "rows": rows(),
        "quality": Quality(
            setting="q4_k_m, int8, 576 image tokens",
            reference="f16, fp32, 576 image tokens",
            score_drift=0.0,
            worst_score_drift=0.04,
            nll_change=0.0123,
            n_photos=2,
        ),
        "reference": "libmtmd of llama-cpp-python 0.3.36",
        "against": [
            Against(
                test="ttft cold",
                what="photo to first token",
                ours_ns=spread(28.2, n=3),
                theirs_ns=spread(37.1, n=3, by=0.03),
            )
        ],
        "predictions": [
            Prediction(
                gguf="q8_0", vision="int8", n_image_tokens=576, score_s=31.2, critique_s=58.0, n_gen=64,
                basis="pp576 img, tg128 @ d640",
            ),
            Prediction(
                gguf="q4_k_m", vision="int8", n_image_tokens=144, score_s=9.4, critique_s=25.1, n_gen=64,
                basis="pp576 img, tg128 @ d640",
            ),
        ],
    }  # fmt: skip
    return Result(**parts | changes)


def empty() -> Result:
    """Return what there is when it is interrupted before the first row."""
    return Result(ok=False, card=card(), rows=[])
