"""The server's own OpenAPI document, asked at random; its metrics; and what it imports."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from serving import jpeg

from aesedge.serve import answer_events

if TYPE_CHECKING:
    from serving import Running

SPEAKS_HTTP = {"httpx", "httpx2", "requests", "aiohttp", "urllib3", "urllib.request"}
"""With what a server could fetch something. Starlette takes the names of statuses from http.client."""


def test_server_could_fetch_nothing() -> None:
    script = "import sys, aesedge.serve.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not SPEAKS_HTTP & set(done.stdout.split())


def test_document_lists_all_addresses(served: Running) -> None:
    document = served.ask("GET", "/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            body = {} if method == "post" else None
            assert served.ask(method.upper(), path.replace("{model}", "pocket"), body).status not in {404, 405}, path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_document_holds_what_it_says(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """schemathesis makes requests from the document, good and bad ones: none is answered with an error of ours."""
    monkeypatch.setattr(answer_events, "DEFAULT_MAX_TOKENS", 8)  # long texts take their time and prove no more
    schemathesis = pytest.importorskip("schemathesis")
    hypothesis = pytest.importorskip("hypothesis")
    document = served.ask("GET", "/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=served.address)

    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=4,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def ask(case: Any) -> None:
            response = case.call(timeout=60)
            assert response.status_code < 500, (case.as_curl_command(), response.text)
            assert "Traceback" not in response.text
            listed = case.operation.definition.raw["responses"]
            assert str(response.status_code) in listed, (response.status_code, case.as_curl_command())

        ask()


def value(text: str, name: str) -> float:
    return float(re.search(rf"^aesedge:{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


def test_metrics_count(served: Running) -> None:
    before = served.ask("GET", "/metrics").body.decode()
    answer = served.chat(jpeg(300), "Hi").json()
    served.chat(model="other")
    after = served.ask("GET", "/metrics")
    text = after.body.decode()
    assert after.headers["content-type"].startswith("text/plain; version=0.0.4")
    label = '{model_name="pocket"}'
    usage = answer["usage"]

    def grown(name: str) -> float:
        return value(text, name) - value(before, name)

    assert grown(f"prompt_tokens_total{label}") == usage["prompt_tokens"]
    assert grown(f"generation_tokens_total{label}") == usage["completion_tokens"]
    assert grown(f"prefix_cache_hits{label}") == usage["prompt_tokens_details"]["cached_tokens"]
    assert grown(f"e2e_request_latency_seconds_count{label}") == 1
    assert value(text, f"num_requests_running{label}") == 0
    assert 0 < value(text, f"kv_cache_usage_perc{label}") <= 1
    assert value(text, 'photos_total{model_name="pocket",cache="cold"}') >= 1
    assert "aesedge:score" not in text  # it would tell about the owners of photos
    buckets = re.findall(r'time_to_first_token_seconds_bucket{model_name="pocket",le="([^"]+)"} (\d+)', text)
    assert [float(count) for _, count in buckets] == sorted(float(count) for _, count in buckets)
    assert buckets[-1][0] == "+Inf"
