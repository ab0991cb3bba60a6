"""README and docs: every command, path and link on them exists; tests/test_pages.py runs the commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from encoder_roles.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
RULES = {
    rule
    for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    for rule in re.findall(r"rule (\w+):", path.read_text(encoding="utf-8"))
}
TREES = "src|tests|docs|performance|workflow|studies|envs|slurm|sources/laptop"
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pages
def test_every_command_on_a_page_exists(page: Path) -> None:
    text = text_of(page)
    code = re.sub(r" # .*", "", "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)))
    assert set(re.findall(r"encoder-roles ([a-z][\w-]+)", code)) <= set(COMMANDS)
    assert set(re.findall(r"\bmake ([a-z][\w-]*)", code)) <= TARGETS
    assert set(re.findall(r"^snakemake .* -- (\w+)", code, re.MULTILINE)) <= RULES


@pages
def test_every_path_on_a_page_exists(page: Path) -> None:
    names = set(re.findall(rf"(?<![\w./>-])(?:{TREES})/[\w./+*<>-]*\w", text_of(page)))
    names = {name for name in names if not name.endswith(".lock.yaml")}  # `lock_sources` writes these
    assert [name for name in names if not list(ROOT.glob(re.sub(r"<\w+>", "*", name)))] == []


@pages
def test_every_link_on_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", text_of(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_leads_to_every_page_or_to_one_that_does() -> None:
    linked = {ROOT / "README.md"}
    for _ in range(2):
        linked |= {(page.parent / link).resolve() for page in linked for link in links_to_pages(page)}
    assert set(PAGES) <= linked
    assert (ROOT / "docs/architecture.md") in {
        (ROOT / link).resolve() for link in links_to_pages(ROOT / "README.md")
    }


def links_to_pages(page: Path) -> list[str]:
    return re.findall(r"\]\(([\w./-]+\.md)\)", text_of(page))


def test_every_message_of_the_faq_is_one_that_the_code_writes() -> None:
    messages = re.findall(r"^\*\*`([^`]+)`\*\*", text_of(ROOT / "docs/faq.md"), re.MULTILINE)
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    source = re.sub(r'"\n\s+f?"', "", source)  # a message written as adjacent literals
    assert len(messages) > 8
    assert [message for message in messages if message not in source] == []


def test_the_glossary_is_in_order_and_names_each_word_once() -> None:
    words = re.findall(r"^\| \*\*([^*]+)\*\*", text_of(ROOT / "docs/glossary.md"), re.MULTILINE)
    assert len(words) > 30 and words == sorted(set(words), key=str.lower)
