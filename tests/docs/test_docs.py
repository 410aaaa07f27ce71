"""Documents cannot rot: links resolve, settings are described, commands exist, and generated pages are fresh."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
import typer

from services import settings_docs
from services.cli import app
from services.core import topology
from services.core.events import EVENTS
from services.core.schemas import SENDERS
from services.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("model_archive/**/*.md")])
LATER = {"docs/benchmarks.md", "docs/lookup.md"}
"""Written by `make bench` and `make bench-lookup`; a page that links to them may come first."""


# -- settings ------------------------------------------------------------------------------------------------------


def test_the_settings_page_is_fresh() -> None:
    assert settings_docs.main(["--check", "--out", str(ROOT / "docs" / "settings.md")]) == 0


def test_a_stale_settings_page_is_found_and_mended(tmp_path: Path) -> None:
    page = tmp_path / "settings.md"
    assert settings_docs.main(["--check", "--out", str(page)]) == 1
    assert settings_docs.main(["--out", str(page)]) == 0
    assert settings_docs.main(["--check", "--out", str(page)]) == 0


def test_every_setting_has_a_description_and_a_line_on_the_page() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for section, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        for name, described in (inner or {section: field}).items():
            variable = f"PENTIMENTO_{section}__{name}" if inner else f"PENTIMENTO_{section}"
            assert described.description, f"{section}.{name} has no description"
            assert f"`{variable.upper()}`" in page


def test_every_variable_that_code_or_documents_name_is_on_the_settings_page() -> None:
    known = set(settings_docs.variables())
    internal = {"PENTIMENTO_COMPONENT"}  # a mark that the embedded stack puts on its own processes
    for path in _ours("*.py", "*.md", "Makefile"):
        for name in re.findall(r"\bPENTIMENTO_[A-Z][A-Z0-9_]*[A-Z0-9]\b", path.read_text(encoding="utf-8")):
            whole = name in known or name in internal
            section = any(each.startswith(f"{name}__") for each in known)
            assert whole or section, f"{path.relative_to(ROOT)} names {name}, which is no setting"


# -- links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_on_a_page_leads_somewhere(page: Path) -> None:
    for target in _links(page):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if str(found).removeprefix(f"{ROOT}/") in LATER:
            continue
        assert found.exists(), f"{page.relative_to(ROOT)} links to {target}"
        if anchor:
            assert anchor in _anchors(found), f"{page.relative_to(ROOT)}: {found.name} has no heading #{anchor}"


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or not page.is_file():
            continue
        seen.add(page)
        targets = [link.partition("#")[0] for link in _links(page) if not link.startswith("http")]
        waiting += [(page.parent / target).resolve() for target in targets if target.endswith(".md")]
    assert [str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md") if page not in seen] == []


def test_the_picture_of_the_flow_names_every_group_stage_and_topic() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "flow.svg")
    words = " ".join("".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text"))
    for group in topology.GROUPS.values():
        assert group.name in words
        for name in (*group.stages, *group.reads, *group.writes):
            assert name in words or name == topology.REVIEWS, name


def test_the_page_about_events_has_the_topics_of_the_topology() -> None:
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    for topic in topology.TOPICS.values():
        kept = "for ever" if topic.retention_hours is None else f"{topic.retention_hours // 24} days"
        line = f"| `{topic.name}` | {topic.partitions} | {kept} | {topic.cleanup} | {topic.max_message_bytes:,} |"
        assert line in page


def test_the_page_about_events_names_every_topic_and_type() -> None:
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    for event in EVENTS:
        assert f"| `{event.topic}` | {event.__name__} | [`{event.ce_type}`]" in page
    assert {topic for topics in SENDERS.values() for topic in topics} <= set(topology.TOPICS)


# -- commands ------------------------------------------------------------------------------------------------------


def test_every_command_line_in_the_documents_is_one_that_the_program_understands() -> None:
    lines = [(page, line) for page in PAGES for line in _command_lines(page)]
    assert len(lines) >= 10
    for page, line in lines:
        fault = _misunderstood(line)
        assert fault is None, f"{page.relative_to(ROOT)}: `{line}`: {fault}"


@pytest.mark.parametrize("line", ["pentimento fly", "pentimento up --sideways", "pentimento originals burn x"])
def test_a_command_line_that_does_not_exist_is_noticed(line: str) -> None:
    assert _misunderstood(line) is not None


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert target in targets, f"{page.relative_to(ROOT)} names `make {target}`"


def test_the_python_in_the_readme_is_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)


# -- what does not belong in the repository --------------------------------------------------------------------------

HOSTS = ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "maven" + ".org", "proxy.golang" + ".org")
PLACES = re.compile(r"(?<![\w.~-])/(?:root|home|Users|work)/[\w.-]+")


def test_no_file_names_a_package_registry_or_a_place_on_somebodys_machine() -> None:
    faults = []
    for path in _tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # a picture, or deleted a moment ago
        faults += [f"{path.relative_to(ROOT)}: {host}" for host in HOSTS if host in text]
        faults += [f"{path.relative_to(ROOT)}: {place}" for place in PLACES.findall(text)]
    assert faults == []


def test_the_licence_is_the_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert text.count("\n") > 190


# -- reading -------------------------------------------------------------------------------------------------------


def _ours(*patterns: str) -> Iterator[Path]:
    for path in _tracked():
        if any(path.match(pattern) for pattern in patterns) and path.is_file():
            yield path


def _tracked() -> list[Path]:
    """Every file that git tracks or would track; all files of the tree where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if found.returncode == 0:
        return [ROOT / name for name in found.stdout.decode().split("\0") if name]
    hidden = (".venv", ".cache", ".git")
    return [path for path in ROOT.rglob("*") if path.is_file() and not any(part in hidden for part in path.parts)]


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", lambda code: "" if "](" in code.group() else code.group(), _prose(page))
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _command_lines(page: Path) -> Iterator[str]:
    """Every `pentimento ...` in a shell block, and in running text where it has at least a command."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```(?:sh|bash|console)?\n(.*?)```", text, re.DOTALL):
        yield from (line.removeprefix("$ ").strip() for line in block.splitlines() if _is_ours(line))
    yield from re.findall(r"`(pentimento [a-z][^`…]*)`", _prose(page))


def _is_ours(line: str) -> bool:
    return line.removeprefix("$ ").startswith("pentimento ")


def _misunderstood(line: str) -> str | None:
    """Why the command line parser does not understand a line, or None. Nothing is run."""
    words = shlex.split(line.split("|", maxsplit=1)[0], comments=True)[1:]
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command, info_name="pentimento")
    while hasattr(command, "get_command"):
        name = words[0] if words else ""
        if not name or name.startswith("-"):
            break  # a group's own options
        del words[0]
        found = command.get_command(context, name)
        if found is None:
            return f"{context.command_path} has no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in {*options, "--help"}]
    return f"{command.name} has no option {unknown[0]}" if unknown else None
