"""A service, its model, and a browser with pages of another origin: the manual's recipes."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest

from runtime.config.settings import ROOT
from tests import npm
from tests.browser import Browser, program
from tests.documented_commands import blocks_of
from tests.front_ends import Model, Stage, settings_of, sign_in
from tests.servers import Service, wait_until

ESBUILD = "esbuild@0.28.2"
HERE = Path(__file__).parent
MANUAL = ROOT / "runtime" / "docs" / "recipes.md"
SECONDS = 20


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Site"]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "empty.html").touch()
    with Site.serving(folder) as site:
        yield site


class Site:
    """Pages that are served from an origin of their own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.origin = f"http://127.0.0.1:{port}"

    @classmethod
    @contextmanager
    def serving(cls, folder: Path) -> Iterator["Site"]:
        handler = partial(_Quiet, directory=folder)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield cls(folder, server.server_address[1])
            server.shutdown()

    def build(self, name: str, base: str, *packages: str) -> None:
        """Bundle the page `name`.jsx, and the files of the manual, with packages from npm."""
        version = "-".join(package.replace("/", "-").lstrip("@") for package in packages)
        work = npm.CACHE / f"recipe-{version}"
        for package in packages:
            modules = npm.installed(package, work)
        esbuild = npm.installed(ESBUILD, npm.CACHE / "esbuild") / ".bin" / "esbuild"
        source = self.folder / f"{name}-source"
        # It is built anew where pytest-xdist runs a module's tests in two parts.
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for block in blocks_of(MANUAL):
            if block.kind == "file":
                text = block.text.replace("http://127.0.0.1:8000/api/v1", base)
                (source / Path(block.detail).name).write_text(text)
        (source / f"{name}.jsx").write_text((HERE / f"{name}.jsx").read_text())
        (source / "node_modules").symlink_to(modules)
        bundled = [f"{name}.jsx", "--bundle", "--jsx=automatic", f"--outfile=../{name}.js"]
        dev = '--define:process.env.NODE_ENV="production"'
        command = [esbuild, *bundled, dev, "--log-level=error"]
        subprocess.run(command, cwd=source, check=True, timeout=60)
        keep = "addEventListener('error', ({ message }) => (window.fault = message))"
        scripts = f'<script>{keep}</script><script src="{name}.js"></script>'
        page = f'<!doctype html><meta charset="utf-8"><body>{scripts}'
        (self.folder / f"{name}.html").write_text(page)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture(scope="session")
def stage(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    program()  # Without a browser nothing is begun.
    folder = tmp_path_factory.mktemp("recipes")
    with Model() as model:
        settings = settings_of(folder, model) | {"CORS_ORIGINS": site.origin}
        pair = sign_in(settings)
        with Service(folder, settings) as service:
            yield Stage(service, model, pair)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as browser:
        yield browser


class Page:
    """A recipe's page in a browser, with one chat."""

    def __init__(self, browser: Browser, url: str, stage: Stage) -> None:
        self._browser = browser
        self._url = url
        self.stage = stage

    def open(self) -> None:
        """Load it, the first time or again."""
        self._browser.open("about:blank", "true")
        self._browser.open(self._url, "window.chat || document.querySelector('p') || window.fault")
        assert self.do("window.fault") is None

    def do(self, expression: str) -> object:
        return self._browser.read(expression)

    def keep(self, **tokens: str) -> None:
        """Put tokens where the page keeps them."""
        self.do(f"localStorage.setItem('session', JSON.stringify({json.dumps(tokens)}))")

    @property
    def kept(self) -> dict:
        return json.loads(self.do("localStorage.getItem('session')"))

    def send(self, text: str) -> None:
        self.waits_for("!!window.chat && !chat.isLoading?.()")
        self.do(f"void chat.send({json.dumps(text)})")

    def waits_for(self, expression: str) -> None:
        wait_until(lambda: self.do(expression), SECONDS, expression)

    @property
    def shown(self) -> list[str]:
        """What is to be read in each message."""
        read = "[...document.querySelectorAll('article')].map((each) => each.textContent)"
        return self.do(read)

    def shows(self, *texts: str) -> None:
        """Wait until these are the messages, and no answer is under way."""
        with suppress(AssertionError):
            wait_until(lambda: self.shown == list(texts), SECONDS, "what is shown")
        assert self.shown == list(texts)


@pytest.fixture
def page_of(browser: Browser, site: Site, stage: Stage) -> Callable[[str], Page]:
    def page_of(name: str) -> Page:
        url = f"{site.origin}/{name}.html?chat={quote(stage.new_chat(), safe='')}"
        page = Page(browser, url, stage)
        browser.open(f"{site.origin}/empty.html", "true")
        page.keep(**stage.pair)
        page.open()
        return page

    return page_of
