"""The contract of the command line, in process: what goes to stdout, what to stderr, which exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

import cli_runner
import jsonschema
import msgspec
import pytest
from cli_runner import Cli, photos, send
from conftest import drawn_photo
from image_files import stored

from aesedge.cli import main
from aesedge.cli.photos import PhotoError
from aesedge.engine.results import PhotoResult
from aesedge.system.paths import data_folder
from aesedge.system.sanitize import sanitize

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "photo-result.schema.json").read_text())
ERROR_SCHEMA = json.loads((DOCS / "photo-error.schema.json").read_text())

cli = cli_runner.cli  # fixture


def test_run_prints_scores_attributes_and_critique(cli: Cli, photo_path: Path) -> None:
    code, out, err = cli("run", "--max-tokens", 5, photo_path)
    assert (code, err) == (0, "")
    assert out.startswith(str(photo_path))
    for word in ("score", "technical quality", "color and light", "composition", "content", "high", "cut at 5 tokens"):
        assert word in out
    assert "\x1b" not in out


def test_run_json_is_one_line_per_photo_and_matches_the_schema(cli: Cli, tmp_path: Path) -> None:
    paths = photos(tmp_path, 2)
    code, out, err = cli("run", "--json", "--max-tokens", 4, "--ask", "What?", "--ask", "Why?", *paths)
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["photo"] for line in lines] == [str(p) for p in paths]
    for line in lines:
        jsonschema.validate(line, SCHEMA)
        assert [a["ask"] for a in line["answers"]] == ["What?", "Why?"]
        assert line["timings"]["n_generated"] == 12
        assert line["critique"]
    assert lines[0]["score"] != lines[1]["score"]


def test_the_schemas_in_docs_are_those_of_the_code() -> None:
    assert PhotoResult.json_schema() == SCHEMA
    assert msgspec.json.schema(PhotoError) == ERROR_SCHEMA


def test_json_has_the_fields_of_the_contract(cli: Cli, photo_path: Path) -> None:
    line = json.loads(cli("run", "--json", "--max-tokens", 2, photo_path)[1])
    contract = "photo bundle gguf image_tokens score rating entropy off_label attributes critique answers finish_reason"
    assert set(contract.split()) <= set(line)
    assert list(line["rating"]) == ["high", "medium", "low"]
    timings = "decode_image_s vision_s prefill_s ttft_s generate_s total_s n_prompt n_reused n_generated"
    assert set(timings.split()) <= set(line["timings"])
    assert set(line["attributes"]) == {"technical quality", "color and light", "composition", "content"}


def test_a_photo_that_fails_is_named_and_the_others_are_done(cli: Cli, tmp_path: Path) -> None:
    (good,) = photos(tmp_path, 1)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a photo")
    missing = tmp_path / "missing.jpg"
    code, out, err = cli("run", "--no-critique", bad, missing, good)
    assert (code, out.startswith(str(good)), len(err.splitlines())) == (1, True, 2)
    for line, path in zip(err.splitlines(), (bad, missing), strict=True):
        assert str(path) in line


@pytest.mark.parametrize("command", ["score", "run"])
def test_a_photo_that_fails_has_its_error_in_the_json(cli: Cli, tmp_path: Path, command: str) -> None:
    (good,) = photos(tmp_path, 1)
    (tmp_path / "bad.jpg").write_bytes(b"not a photo")
    (tmp_path / "empty").mkdir()
    odd = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    names = [tmp_path / "bad.jpg", odd, good, tmp_path / "empty"]
    code, out, err = cli(command, "--json", "--quiet", *([] if command == "score" else ["--no-critique"]), *names)
    lines = {line["photo"]: line for line in map(json.loads, out.splitlines())}
    assert (code, len(err.splitlines()), len(lines)) == (1, 3, 4)
    jsonschema.validate(lines.pop(str(good)), SCHEMA)
    for line in lines.values():
        jsonschema.validate(line, ERROR_SCHEMA)
        assert line["error"]["message"] in err
    assert [line["error"]["type"] for line in lines.values()] == ["ImageError", "ImageError", "ImageNotFoundError"]
    assert unquote_to_bytes(next(line["photo_bytes"] for line in lines.values() if "photo_bytes" in line)) == bytes(odd)


def test_folders_are_taken_wherever_photos_are(cli: Cli, tmp_path: Path) -> None:
    """``bench --photo`` and ``tune --quality`` have theirs beside their other tests."""
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    found = [*photos(tmp_path / "in" / "deeper", 1), *photos(tmp_path / "in", 1)]
    for arguments in (["run", "--no-critique", "--json"], ["score", "--json"]):
        code, out, _ = cli(*arguments, tmp_path / "in")
        assert (code, {json.loads(line)["photo"] for line in out.splitlines()}) == (0, set(map(str, found)))
    code, out, _ = cli("doctor", "--reuse", "--json", "--photo", tmp_path / "in")
    assert set(map(str, found)) <= set(json.loads(out)["photos"])
    code, _, err = cli("chat", tmp_path / "in")
    assert (code, "is a folder" in err) == (1, True)


def test_score_prints_a_line_per_photo_and_looks_into_folders(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".hidden").mkdir()
    photos(tmp_path / "in" / ".hidden", 1)
    photos(tmp_path / "in", 2)
    (tmp_path / "in" / "notes.txt").write_text("no photo")
    code, out, err = cli("score", tmp_path / "in")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "2 photos" in err
    code, out, _ = cli("score", "--json", "--no-attributes", "--quiet", tmp_path / "in")
    assert all(json.loads(line)["attributes"] == {} for line in out.splitlines())


def test_all_eight_orientations_score_the_same(cli: Cli, tmp_path: Path) -> None:
    paths = []
    for orientation in range(1, 9):
        paths.append(tmp_path / f"{orientation}.png")
        paths[-1].write_bytes(stored(drawn_photo(3, (64, 48)), orientation, "PNG"))
    _, out, _ = cli("score", "--json", "--quiet", *paths)
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 8
    assert len({line["score"] for line in lines}) == 1
    assert len({json.dumps(line["attributes"]) for line in lines}) == 1


def test_texts_about_several_photos_are_those_about_each(cli: Cli, tmp_path: Path) -> None:
    paths = photos(tmp_path, 3)
    options = ("--max-tokens", 12, "--ask", "Is it sharp?")
    alone = [cli("run", path, *options)[1] for path in paths]
    code, out, err = cli("run", *paths[:2], tmp_path / "none.jpg", paths[2], *options)
    assert (code, out) == (1, "".join(alone))
    assert err.count("\n") == 1
    assert "none.jpg: there is no such file" in err
    _, out, _ = cli("run", "--json", "--report", *paths, *options)
    found = [json.loads(line) for line in out.splitlines()]
    assert [line["photo"] for line in found] == list(map(str, paths))
    for line, text in zip(found, alone, strict=True):
        assert line["critique"]
        assert sanitize(line["critique"], lines=True) in text
        assert sanitize(line["answers"][0]["answer"], lines=True) in text
        assert line["report"]["advice"]


def test_photo_on_stdin(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["-"], []):
        send(monkeypatch, photo_path.read_bytes())
        code, out, _ = cli("run", "--json", "--no-critique", *arguments)
        assert code == 0
        assert json.loads(out)["photo"] == "stdin"


def test_no_photo_and_no_terminal(cli: Cli) -> None:
    code, out, err = cli("run")
    assert code == 1
    assert out == ""
    assert "no photo" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gguf", "q9_9", "x.jpg"], "f32, q4_k_m"),
        (["--vision", "int3", "x.jpg"], "fp32"),
        (["--ctx", "30", "x.jpg"], "at least --ctx"),
        (["--kv-type", "f8", "x.jpg"], "q8_0"),
        (["--gpu-layers", "many", "x.jpg"], "neither auto nor a number"),
        (["--image-tokens", "3", "x.jpg"], "16 image tokens"),
        (["--max-tokens", "0", "x.jpg"], "1 or more"),
        (["--temperature", "-1", "x.jpg"], "between 0 and 10"),
        (["--device", "abacus", "x.jpg"], "abacus"),
        (["--mood", "good", "x.jpg"], "--mood"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_2(cli: Cli, arguments: list[str], message: str) -> None:
    code, out, err = cli("run", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_unknown_bundle_lists_those_there_are(
    cli: Cli, capsys: pytest.CaptureFixture[str], bundle_folder: Path
) -> None:
    shutil.copytree(bundle_folder, data_folder() / "mine")
    assert main(["run", "--bundle", "yours", "x.jpg"]) == 2
    assert "mine" in capsys.readouterr().err
    assert main(["score", "--bundle", "mine", "--threads", "1", "x.jpg"]) == 1


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert "score" in out
    assert err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("aesedge ")


def test_help_says_whose_opinion_the_score_is(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "score"):
        assert main([command, "--help"]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "opinion" in out
        assert "people" in out


def test_bundles_info_and_verify(cli: Cli, bundle_folder: Path) -> None:
    shutil.copytree(bundle_folder, data_folder() / "mine")
    code, out, _ = cli("bundles", load=False)
    assert code == 0
    assert "f32 q4_k_m" in out
    _, out, _ = cli("bundles", "--json", load=False)
    assert "mine" in [json.loads(line)["folder"].split("/")[-1] for line in out.splitlines()]
    code, out, _ = cli("info", "mine", load=False)
    assert code == 0
    assert "llava_v1" in out
    assert "llm-f32.gguf" in out
    _, out, _ = cli("info", "mine", "--json", load=False)
    assert json.loads(out)["format_version"] == 1
    code, _, err = cli("info", "mine", "--card", load=False)
    assert code == 2
    assert "no model card" in err
    code, out, _ = cli("verify", "mine", load=False)
    assert (code, out.count("ok  ")) == (0, 3)
    path = data_folder() / "mine" / "llm-f32.gguf"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, out, err = cli("verify", "mine", load=False)
    assert (code, out.count("ok  ")) == (1, 2)
    assert "llm-f32.gguf" in err
    (data_folder() / "mine" / "manifest.json").write_text("{}")
    code, _, err = cli("bundles", load=False)
    assert code == 1
    assert "manifest.json" in err


def test_export_without_its_extra_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aesedge_export.cli", None)
    assert main(["export", "somewhere"]) == 2
    assert "aesedge[export]" in capsys.readouterr().err


def test_export_without_torch_names_the_extra_once(tmp_path: Path) -> None:
    start = "import sys; sys.modules['torch'] = None; from aesedge.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", start, "export", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("aesedge[export]") == 1
    assert len(done.stderr.splitlines()) == 1


def test_onnxruntime_missing_names_the_extra(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = cli("run", photo_path)
    assert code == 2
    assert "aesedge[cpu]" in err


def test_run_report_on_a_terminal_and_as_json(cli: Cli, photo_path: Path) -> None:
    names = ["technical quality", "color and light", "composition", "content", "strengths", "faults", "advice"]
    code, out, err = cli("run", "--no-critique", "--report", "--max-tokens", 8, photo_path)
    assert (code, err) == (0, "")
    at = {line.index(line.split("  ")[2].strip()) for line in out.splitlines() if line.startswith("  advice")}
    assert all(f"\n  {name:<17}  " in out for name in names)
    assert len(at) == 1
    line = json.loads(cli("run", "--json", "--no-critique", "--report", "--max-tokens", 8, photo_path)[1])
    jsonschema.validate(line, SCHEMA)
    assert [*line["report"]["attributes"], *list(line["report"])[1:]] == names
    assert json.loads(cli("run", "--json", "--no-critique", photo_path)[1])["report"] is None


def test_ask_with_a_schema_or_a_grammar(cli: Cli, photo_path: Path, tmp_path: Path) -> None:
    schema, grammar = tmp_path / "answer.json", tmp_path / "answer.gbnf"
    schema.write_text('{"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}')
    grammar.write_text('root ::= "yes" | "no"')
    asked = ["run", "--json", "--no-critique", "--ask", "Is it good?", "--ask", "Really?"]
    for answer in json.loads(cli(*asked, "--schema", schema, photo_path)[1])["answers"]:
        assert json.loads(answer["answer"])["good"] in {True, False}
    for answer in json.loads(cli(*asked, "--grammar", grammar, photo_path)[1])["answers"]:
        assert answer["answer"] in {"yes", "no"}


@pytest.mark.parametrize(
    ("arguments", "content", "message"),
    [
        (["--schema", "FILE"], '{"type": "word"}', "word"),
        (["--schema", "FILE"], "{", "no JSON"),
        (["--schema", "FILE"], b"\xff\xfe\x00", "UTF-8"),
        (["--schema", "FILE"], None, "cannot be read"),
        (["--grammar", "FILE"], 'root ::= "a', "line 1"),
        (["--grammar", "FILE"], 'start ::= "a"', "no rule 'root'"),
    ],
)
def test_bad_files_of_schemas_and_grammars_are_named(
    cli: Cli, photo_path: Path, tmp_path: Path, arguments: list[str], content: str | bytes | None, message: str
) -> None:
    path = tmp_path / "answer"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    chosen = [str(path) if a == "FILE" else a for a in arguments]
    code, out, err = cli("run", "--ask", "Why?", *chosen, photo_path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert str(path) in err
    assert message in err


def test_a_schema_without_a_question(cli: Cli, photo_path: Path, tmp_path: Path) -> None:
    assert "--ask" in cli("run", "--schema", tmp_path / "x", photo_path)[2]
    both = cli("run", "--ask", "Why?", "--schema", tmp_path / "x", "--grammar", tmp_path / "y", photo_path)
    assert (both[0], "one of them" in both[2]) == (2, True)


def test_pin_deadline_and_cache_are_options_of_run(cli: Cli, photo_path: Path) -> None:
    code, out, _ = cli("run", "--json", "--pin", "--deadline", "600s", "--max-tokens", 3, photo_path)
    assert (code, json.loads(out)["cache"]) == (0, "cold")
    code, out, _ = cli("run", "--json", "--no-critique", photo_path)
    assert (code, json.loads(out)["cache"]) == (0, "kv")
    for arguments, words in (
        (["--deadline", "soon"], "--deadline 'soon'"),
        (["--cache-size", "much"], "'much' is no size"),
    ):
        code, _, err = cli("run", *arguments, photo_path)
        assert code == 2
        assert words in err
