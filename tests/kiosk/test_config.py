"""The operator's file: what it may say, and what is told of the rest; the languages of the page."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from aesedge.cli import main
from aesedge.errors import UsageError
from aesedge.kiosk.config import LANGUAGES, PAGE, KioskConfig, read_config

if TYPE_CHECKING:
    from pathlib import Path

WORDS = json.loads(PAGE.joinpath("words.json").read_text(encoding="utf-8"))
WHOLE = """
language = "de"
languages = ["de", "en"]
idle_s = 90
camera = "Logitech"
mirror = false
on_result = ['PYTHON', "-"]
on_result_s = 2.5
browser = "/usr/bin/chromium"
browser_flags = ["--ozone-platform=wayland"]
"""


def test_every_setting_is_read(tmp_path: Path) -> None:
    (tmp_path / "kiosk.toml").write_text(WHOLE.replace("PYTHON", sys.executable))
    found = read_config(tmp_path / "kiosk.toml")
    assert found == KioskConfig(
        language="de",
        languages=("de", "en"),
        idle_s=90.0,
        camera="Logitech",
        mirror=False,
        on_result=(sys.executable, "-"),
        on_result_s=2.5,
        browser="/usr/bin/chromium",
        browser_flags=("--ozone-platform=wayland",),
    )
    assert set(re.findall(r"^(\w+) =", WHOLE, re.MULTILINE)) == set(KioskConfig.__struct_fields__)
    assert read_config(None) == KioskConfig()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("langauge = 'de'", "no setting 'langauge'; the settings are language,"),
        ("[camera]\nname = 'x'", "camera: expected `str`, got `object`"),
        ("language = 3", "language: expected `str`"),
        ("language = 'xx'", "no language 'xx'; the page speaks en, de"),
        ("languages = ['en', 'xx']", "no language 'xx'"),
        ("languages = []", "language 'en' is not among languages"),
        ("languages = ['en', 'en']", "named twice"),
        ("language = 'de'\nlanguages = ['en']", "language 'de' is not among languages"),
        ("idle_s = 3", "idle_s: expected `float` >= 20"),
        ("idle_s = inf", "idle_s: expected `float` <= 3600"),
        ("idle_s = nan", "idle_s: expected"),
        ("idle_s = true", "idle_s: expected `float`, got `bool`"),
        ("mirror = 'no'", "mirror: expected `bool`"),
        ("on_result = 'lp -d photo'", "on_result: expected `array`"),
        ("on_result = ['/no/such/program']", "on_result: there is no program '/no/such/program'"),
        ("on_result = ['python', 3]", "on_result[1]: expected `str`, got `int`"),
        ("on_result = ['']", "on_result: there is no program ''"),
        ("on_result_s = 0", "on_result_s: expected `float` > 0"),
        ("browser_flags = ['https://example.com']", "'https://example.com' is no flag"),
        ('camera = "a\\u0000b"', "NUL"),
        ("language = ", "is no TOML"),
        ("a = 1\na = 2", "is no TOML"),
        ("x = " + "[" * 100_000, "is longer than"),
        ("x = " + "[" * 5_000, "is no TOML"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kiosk.toml"
    path.write_text(text)
    assert main(["kiosk", "--config", str(path), "--no-browser"]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert str(path) in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("data", [b"\xff\xfe", b"language = '\xe9'"])
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "kiosk.toml").write_bytes(data)
    with pytest.raises(UsageError, match="UTF-8"):
        read_config(tmp_path / "kiosk.toml")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config", "none.toml"], "none.toml: cannot be read"),
        (["--config", "."], ".: cannot be read"),
        (["--folder", "none"], "--folder none: there is no such folder"),
        (["--deadline", "soon"], "--deadline 'soon' is no time"),
        (["--deadline", "0"], "--deadline '0' leaves no time"),
        (["--write", "."], "add --install"),
        (["--install", "--write", "none"], "--write none: there is no such folder"),
        (["--bundle", "none", "--no-browser"], "none"),
    ],
)
def test_a_wrong_call_is_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kiosk", *arguments]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert "Traceback" not in message


def test_every_language_has_every_word() -> None:
    assert LANGUAGES == ("en", "de", "fr", "es", "it", "nl", "pl", "ja")
    english = WORDS["en"]
    for language, words in WORDS.items():
        assert list(words) == list(english), language
        assert list(words["attributes"]) == list(english["attributes"]), language
        assert len(words["verdicts"]) == 5
        assert "{n}" in words["stillText"]
        texts = [text for text in words.values() if isinstance(text, str)]
        assert all(text.strip() for text in texts)
        if language != "en":  # nothing was left in English
            same = {name for name in words if words[name] == english[name] and name != "start"}
            assert same <= {"of"}, (language, same)


def test_the_page_says_only_words_of_the_file() -> None:
    """Each word that the script asks for is there; each that is there is asked for."""
    script = PAGE.joinpath("kiosk.js").read_text(encoding="utf-8")
    html = PAGE.joinpath("index.html").read_text(encoding="utf-8")
    states = re.search(r"const SCREENS = \{(.*?)\n\};", script, re.DOTALL)
    assert states is not None
    for word in re.findall(r'\btext\("(\w+)"\)', script) + re.findall(r'data-text="(\w+)"', html):
        assert word in WORDS["en"], word
    asked = set(re.findall(r"\w+", script + html))
    leads = {word for word in WORDS["en"] if word.endswith("Lead") and word.removesuffix("Lead") in asked}
    assert set(WORDS["en"]) - asked - leads == {"name", "attractFolderLead"} - asked - leads
