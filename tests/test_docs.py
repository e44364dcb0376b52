"""Documentation beside the code: README's map, the order of imports, the table of commands and of exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_imports import ORDER

from aesedge.cli import app, exit_codes

ROOT = Path(__file__).parent.parent
NAMED_FILES = {"aesedge": {"errors.py"}, "export": {"exporter.py"}}
"""Files that are named beside the folders; the folder's own docstring names the others."""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", NAMED_FILES)
def test_readme_maps_every_folder_with_a_clause(folder: str) -> None:
    entries = re.search(rf"^    {folder}/ .*\n((?:      .*\n)+)", text("README.md"), re.MULTILINE)
    assert entries is not None
    named = dict(line.split(maxsplit=1) for line in entries[1].splitlines())
    folders = {
        f"{path.name}/" for path in (ROOT / folder).iterdir() if path.is_dir() and not path.name.startswith(("_", "."))
    }
    assert set(named) == folders | NAMED_FILES[folder]
    assert all(clause.strip() for clause in named.values())


def test_readme_names_every_folder_at_the_top() -> None:
    named = set(re.findall(r"^    (\w+)/ ", text("README.md"), re.MULTILINE))
    assert named == {"aesedge", "export", "kernels_bench", "tests", "docs"}
    assert all((ROOT / name).is_dir() for name in named)


def test_architecture_shows_the_order_of_imports() -> None:
    section = text("docs/architecture.md").partition("## Who may import whom")[2]
    assert tuple(re.findall(r"^    (\w+)  ", section, re.MULTILINE)) == ORDER[::-1]


def test_every_command_stands_in_the_table() -> None:
    commands = {info.name for info in app.registered_commands} | {group.name for group in app.registered_groups}
    table = text("docs/cli.md").partition("## JSON")[0]
    assert set(re.findall(r"^\| `([a-z]+)", table, re.MULTILINE)) == commands


def test_every_exit_code_stands_in_the_table() -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.isupper()}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text("docs/cli.md"), re.MULTILINE)} == codes


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text(page))
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_every_extra_stands_in_the_table() -> None:
    extras = text("pyproject.toml").partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    rows = re.findall(r"^\| (`[a-z]+`(?: or `[a-z]+`)?) \|", text("docs/install.md"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z]+)`", row)}
    assert named == set(re.findall(r"^([a-z]+) = \[", extras, re.MULTILINE))
