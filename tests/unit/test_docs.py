"""The documentation names existing files, links to existing pages, and lists folders in the order of their layers."""

import re
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from infra.settings import Settings
from infra.settings.settings import variable
from projections.base import Projection
from projections.columns import Column
from projections.views import Member

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FOLDERS = {"domain", "projections", "readapi", "infra", "tests", "docs"}


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def named_paths(text: str) -> set[str]:
    """All words in backticks that look like paths of this repository."""
    words = re.findall(r"`([\w./-]+)`", prose(text))
    return {word for word in words if "/" in word and word.split("/")[0] in FOLDERS}


def broken_links(page: Path, text: str) -> list[str]:
    """The relative links of a page whose file, or whose heading in that file, does not exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target.read_text()))):
            broken.append(link)
    return broken


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def walks(text: str) -> dict[str, list[str]]:
    """The steps of each walk: heading -> first file of each numbered step."""
    sections = re.findall(r"^## (Walk \d: .*?)$(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    return {heading: re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE) for heading, section in sections}


def layers(package: str) -> list[set[str]]:
    """The layers of a package in setup.cfg, from the bottom to the top."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config[f"importlinter:contract:{package}"]["layers"].split("\n")
    return [set(line.split(" | ")) for line in lines if line][::-1]


def listed_folders(text: str, package: str) -> list[set[str]]:
    """The rows of the table of a package in docs/architecture.md."""
    section = re.findall(rf"^### `{package}/`.*?(?=^##)", text, re.MULTILINE | re.DOTALL)[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    return [set(re.findall(r"`(\w+)`", row)) for row in rows]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_named_path_exists(page: Path) -> None:
    assert [path for path in sorted(named_paths(page.read_text())) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_named_setting_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w{])TICKVIEW_[A-Z_]+[A-Z]", page.read_text()))
    assert named - {variable(name) for name in Settings.model_fields} - {"TICKVIEW_PACKAGE"} == set()


def test_every_named_test_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    code = "".join(file.read_text() for file in ROOT.glob("tests/**/*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in code} == set()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_the_guides_name_paths(name: str) -> None:
    assert len(named_paths((ROOT / name).read_text())) >= 4


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_resolves(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_each_walk_names_each_file_once() -> None:
    steps = walks(ARCHITECTURE.read_text())
    assert [heading[:6] for heading in steps] == ["Walk 1", "Walk 2", "Walk 3"]
    for files in steps.values():
        assert len(files) > 20
        assert sorted(files) == sorted(set(files))


@pytest.mark.parametrize("package", ["infra", "readapi"])
def test_the_folders_are_listed_in_the_order_of_their_layers(package: str) -> None:
    assert listed_folders(ARCHITECTURE.read_text(), package) == layers(package)


def test_the_reference_lists_every_part_of_a_declaration() -> None:
    derived = {"columns", "indexes", "texts", "counts"}
    methods = {"keys", "evolve", "expiry", "merge", "group_of"}
    assert methods <= vars(Projection).keys()
    reference = (ROOT / "docs" / "read-models.md").read_text().split("\n## Reference\n")[1]
    listed = set(re.findall(r"^\| `(\w+)", reference, re.MULTILINE))
    assert {*Projection.__annotations__} - derived | methods <= listed
    assert {field.name for field in fields(Column)} <= listed
    assert {member.__name__ for member in get_args(Member) if member is not str} <= set(
        re.findall(r"`(\w+)\(", reference)
    )


def test_wrong_paths_and_links_are_found() -> None:
    text = "# One page\n\n`infra/log/gone.py` and `infra/log/` [a](gone.md) [b](#one-page) [c](#another) [d](https://example.org)\n"
    assert [path for path in sorted(named_paths(text)) if not (ROOT / path).exists()] == ["infra/log/gone.py"]
    here = ROOT / "docs" / "glossary.md"
    assert broken_links(here, text) == ["gone.md", "#one-page", "#another"]
    assert anchors(text) == {"one-page"}
