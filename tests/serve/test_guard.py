"""Who may ask, and how: hosts, origins, keys, kinds of bodies, sizes."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from serving import KEY, Running, jpeg, serving

from aesedge.errors import UsageError
from aesedge.serve.listening import check_address
from aesedge.serve.settings import MOST_BODY, ServeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
ORIGIN = "https://photos.example"


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    """A server with two keys, and an origin that may ask."""
    with serving(keys=(KEY.encode(), b"another key"), origins=(ORIGIN,), private=True) as running:
        yield running


def post(running: Running, body: object = CHAT, **headers: str) -> tuple[int, str]:
    answer = running.ask("POST", "/v1/chat/completions", body, **headers)
    return answer.status, answer.json().get("error", {}).get("code", "")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9", "localhost", "LOCALHOST:80", "[::1]:1", "x.localhost", "nas.local", "192.168.1.9"]
)
@pytest.mark.parametrize("path", ["/health", "/v1/models", "/"])
def test_names_of_this_machine_are_answered(served: Running, host: str, path: str) -> None:
    assert served.ask("GET", path, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "a b",
        "[::1",
        "1.2.3.4@x",
        "xlocalhost",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/"), ("POST", "/api/chat"), ("OPTIONS", "/")]
)
def test_other_names_are_refused(served: Running, host: str, method: str, path: str) -> None:
    """DNS rebinding: a name of an attacker that leads here (CVE-2024-28224); an empty one too."""
    assert served.ask(method, path, host=host).status == 403


def test_two_hosts_are_refused(served: Running) -> None:
    with served.raw() as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 400 " in line.recv(4096)


def test_no_host_is_refused(served: Running) -> None:
    with served.raw() as line:
        line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert b" 403 " in line.recv(4096)


def test_origins(served: Running, locked: Running) -> None:
    own = f"http://127.0.0.1:{served.port}"
    assert post(served, origin=own) == (200, "")
    for origin in ("https://evil.example", "null", "http://localhost.evil", ORIGIN, ""):
        assert post(served, origin=origin)[0] == 403
        assert served.ask("GET", "/v1/models", origin=origin).status == 403
    answer = locked.ask("POST", "/v1/chat/completions", CHAT, origin=ORIGIN, authorization=f"Bearer {KEY}")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "access-control-allow-credentials" not in answer.headers
    assert post(locked, origin=ORIGIN + ".evil", authorization=f"Bearer {KEY}")[0] == 403


def test_preflight_is_answered_for_named_origins_alone(served: Running, locked: Running) -> None:
    asked = {
        "access_control_request_method": "POST",
        "access_control_request_headers": "authorization,x-stainless-os,x-evil",
    }
    answer = locked.ask("OPTIONS", "/v1/chat/completions", origin=ORIGIN, **asked)
    assert (answer.status, answer.headers["access-control-allow-headers"]) == (204, "authorization, x-stainless-os")
    assert served.ask("OPTIONS", "/v1/chat/completions", origin=ORIGIN, **asked).status == 403
    assert not [name for name in served.ask("GET", "/").headers if name.startswith("access-control")]


def test_key_is_asked_for_everywhere_but_health(locked: Running) -> None:
    paths = [
        "/",
        "/page.js",
        "/ready",
        "/metrics",
        "/openapi.json",
        "/v1/models",
        "/api/tags",
        "/api/version",
        "/nowhere",
    ]
    for path in paths:
        answer = locked.ask("GET", path)
        assert (answer.status, "www-authenticate" in answer.headers) == (401, True), path
    assert locked.ask("GET", "/health").status == 200
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/photo", "/api/chat", "/api/generate", "/api/show"):
        assert locked.ask("POST", path, {}).status == 401, path


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {KEY} ",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Basic @@",
        f"Digest {KEY}",
        "Bearer \xff",
    ],
)
def test_wrong_keys_are_refused(locked: Running, header: str) -> None:
    right = header.strip() == f"Bearer {KEY}"
    assert post(locked, authorization=header)[0] == (200 if right else 401)


def test_every_key_is_taken_in_every_form(locked: Running) -> None:
    basic = base64.b64encode(f"anybody:{KEY}".encode()).decode()
    for header in (f"Bearer {KEY}", "bearer another key", f"Basic {basic}"):
        assert post(locked, authorization=header)[0] == 200
    assert post(locked, x_api_key=KEY)[0] == 200


def test_private_owners_find_nothing_of_each_other(locked: Running) -> None:
    """Whether a photo was here before could be told by the time that it takes (CVE-2025-46570)."""
    photo = jpeg(77)
    states = [
        locked.photo(photo, "?words=0", authorization=f"Bearer {key}").json()["cache"]
        for key in (KEY, KEY, "another key", "another key")
    ]
    assert states == ["cold", "kv", "cold", "kv"]


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "image/jpeg",
        "application/jsonx",
    ],
)
def test_bodies_say_that_they_are_json(served: Running, kind: str) -> None:
    """Pages elsewhere can send texts and forms without being asked first."""
    for path in ("/v1/chat/completions", "/v1/responses", "/api/chat", "/api/generate", "/api/show"):
        answer = served.ask("POST", path, json.dumps(CHAT).encode(), content_type=kind)
        assert answer.status == 415, path


def test_photos_say_that_they_are_images(served: Running) -> None:
    assert served.photo(jpeg(), "?words=0", content_type="application/octet-stream").status == 200
    for kind in ("", "text/plain", "application/json"):
        assert served.photo(jpeg(), content_type=kind).status == 415
    assert served.photo(jpeg(), content_encoding="gzip").status == 415


def test_json_may_name_its_letters(served: Running) -> None:
    assert (
        served.ask(
            "POST", "/v1/chat/completions", json.dumps(CHAT).encode(), content_type="Application/JSON; charset=utf-8"
        ).status
        == 200
    )


def test_large_bodies_are_refused_before_they_come(served: Running) -> None:
    with served.raw() as line:
        head = "POST /v1/photo HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        head += f"Content-Length: {MOST_BODY + 1}\r\n\r\n"
        line.sendall(head.encode())
        assert b" 413 " in line.recv(4096)


def test_large_bodies_in_chunks_are_refused(served: Running) -> None:
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    with served.raw() as line:
        head = b"POST /v1/photo HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        line.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(MOST_BODY // 0x100000 + 4):
                line.sendall(chunk)
        except OSError:  # it hung up, as it may
            return
        assert b" 413 " in line.recv(4096)
    assert served.service.bodies.n_bytes == 0


def test_answers_tell_browsers_to_be_careful(served: Running) -> None:
    page = served.ask("GET", "/", accept="text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for path in ("/", "/nowhere", "/health", "/v1/models"):
        headers = served.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert len(headers["x-request-id"]) == 32
        assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/page/../server.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/models/..%2f..%2fetc",
        "//etc/passwd",
        "/page.js/x",
    ],
)
def test_no_path_leads_to_a_file(served: Running, path: str) -> None:
    answer = served.ask("GET", path)
    assert answer.status == 404
    assert b"root:" not in answer.body


def test_unknown_addresses_and_methods(served: Running) -> None:
    answer = served.ask("GET", "/nowhere")
    assert (answer.status, answer.json()["error"]["type"]) == (404, "invalid_request_error")
    answer = served.ask("GET", "/v1/chat/completions")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert isinstance(served.ask("GET", "/api/nowhere").json()["error"], str)


@pytest.mark.parametrize("host", ["::", "192.168.1.5", "0.0.0.0"])  # noqa: S104
def test_other_addresses_need_a_key(host: str) -> None:
    with pytest.raises(UsageError, match="--key-file"):
        check_address(ServeSettings(host=host))
    assert not check_address(ServeSettings(host=host, keys=(b"12345678",)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_this_machine_needs_none(host: str) -> None:
    assert check_address(ServeSettings(host=host))


@pytest.mark.parametrize("host", ["example.org", "", "1.2.3", "localhost:80"])
def test_names_are_not_looked_up(host: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        check_address(ServeSettings(host=host))
