"""The house's own guards: who imports whom, and documents that say what the code does."""

import ast
import re
from pathlib import Path

import pytest
from flask import Flask

from runtime import errors, i18n
from runtime.agent.events import ErrorCode
from runtime.api import document
from runtime.config import ROOT, SETTINGS

RUNTIME = ROOT / "runtime"

# Each may import what stands before it, and nothing else of ours. Of several on one line none
# imports another.
TIERS = [
    ["origins", "redirects"],
    [
        "config",
        "errors",
        "clock",
        "devices",
        "shares",
        "turns",
        "wire",
        "inbox",
        "postgres_connection",
    ],
    [
        "chinese_passwords",
        "addresses",
        "callers",
        "i18n",
        "letter_layout",
        "mail_headers",
        "smtp_refusals",
    ],
    ["words"],
    ["logs", "tables", "misspelt"],
    ["metrics", "sender"],
    ["refusals"],
    ["worker", "letters", "passwords", "tokens"],
    ["lookout", "weakness"],
    ["postgres", "redis_store"],
    ["store"],
    ["db"],
    ["mail", "models", "migrate", "pages", "ratelimit"],
    ["allowances", "start"],
    ["agent"],
    ["services.events", "services.languages", "services.former_spendings"],
    ["services.ids", "services.places", "services.chat_state"],
    ["services.codes"],
    ["services.credentials"],
    ["services.users", "services.sessions", "services.health"],
    ["services.mailings"],
    ["services.journal", "services.budgets", "services.purge"],
    ["services.chats", "services.storage"],
    [
        "services.verifications",
        "services.recoveries",
        "services.email_changes",
        "services.password_changes",
        "services.runs",
    ],
    ["services.exports", "services.erasures"],
    ["api.avatar_urls", "api.cors", "api.proxies"],
    ["api.schemas", "api.http", "api.streams", "api.translation"],
    ["api.parser", "api.problems", "api.downloads", "api.guards"],
    ["api.blueprint", "api.openapi", "api.news"],
    [
        "api.auth",
        "api.users",
        "api.agent_chats",
        "api.ag_ui",
        "api.infra",
        "api.metrics",
        "api.document",
    ],
    ["api"],
    ["cli", "server"],
]
TIER = {name: number for number, names in enumerate(TIERS) for name in names}
# Runs inherit an interface of the agent's, and nothing in the agent knows of anything else.
ALONE = {"agent"}


def modules() -> list[Path]:
    return sorted(path for path in RUNTIME.rglob("*.py") if path != RUNTIME / "__init__.py")


def name_of(path: Path) -> str:
    """The module's name below `runtime`, all of the agent being one."""
    parts = path.relative_to(RUNTIME).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return "agent" if parts[0] == "agent" else ".".join(parts)


def imports_of(path: Path) -> set[str]:
    """What of ours a file imports, deferred imports included."""
    package = ["runtime", *path.relative_to(RUNTIME).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return {_module(name) for name in found if name.startswith("runtime.")} - {""}


def _module(name: str) -> str:
    """The module that an imported name belongs to."""
    parts = name.split(".")[1:]
    if parts[0] == "agent":
        return "agent"
    while parts and not (
        RUNTIME.joinpath(*parts).with_suffix(".py").exists()
        or RUNTIME.joinpath(*parts, "__init__.py").exists()
    ):
        parts = parts[:-1]
    return ".".join(parts)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path: Path):
    name = name_of(path)
    others = imports_of(path) - {name}
    if name in ALONE:
        assert not others
    # A package's own folder is no import of what is in it.
    upward = {other for other in others if TIER.get(other, -1) >= TIER.get(name, len(TIERS))}
    assert not upward, f"{name} imports {upward}"


def test_every_module_has_its_place():
    names = {name_of(path) for path in modules()} - {"services"}
    assert names == set(TIER)


def test_nothing_imports_the_application():
    for path in modules():
        assert not re.search(r"^\s*(from|import) (app|wsgi)\b", path.read_text(), re.MULTILINE)


def test_no_query_is_written_in_the_api():
    for path in (RUNTIME / "api").glob("*.py"):
        assert ".where(" not in path.read_text(), path.name


def test_the_route_document_says_what_the_routes_do(app: Flask):
    with app.app_context():
        assert document.is_current(), "run: flask routes-document"


def test_the_readme_lists_every_setting():
    readme = (ROOT / "README.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \|$", readme, re.MULTILINE))
    assert table == {setting.name: setting.sentence for setting in SETTINGS}


def test_every_sentence_stands_in_both_languages():
    for code, sentences in i18n.SENTENCES.items():
        assert len(sentences) == 2 and all(sentences), code
        assert re.search("[\u4e00-\u9fff]", sentences[0]), code
        assert sentences[1].isascii(), code
        assert sentences[0].count("{}") == sentences[1].count("{}"), code


def failures(base=errors.Failure) -> set[type]:
    return {base} | {kind for inner in base.__subclasses__() for kind in failures(inner)}


def test_every_failure_has_its_sentence():
    for failure in failures() - {errors.Failure}:
        assert failure.code in i18n.SENTENCES


def test_every_way_a_run_can_fail_has_its_sentence():
    for code in ErrorCode:
        assert f"run_{code.value}" in i18n.SENTENCES


def test_no_sentence_is_left_over():
    used = {failure.code for failure in failures() - {errors.Failure}}
    used |= {f"run_{code.value}" for code in ErrorCode}
    source = "".join(path.read_text() for path in (RUNTIME / "api").glob("*.py"))
    source += "".join(path.read_text() for path in (RUNTIME / "services").glob("*.py"))
    for code in set(i18n.SENTENCES) - used:
        assert code.startswith("http_") or f'"{code}' in source, code
