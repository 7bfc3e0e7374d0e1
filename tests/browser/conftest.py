"""Pages in a real browser: headless Chromium, watched for errors and for requests to anything but the page itself.

`page` (1280 x 900), `phone` (390 x 844) and `screen` (both, one test each) are Playwright pages that fail their test at
its end where the console reported an error, a script threw, or something was requested. `assert_accessible` runs
axe-core. Without a browser the tests are skipped; with MEDLOOP_NEEDS_BROWSER=1, as in CI, they fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

DESKTOP, PHONE = (1280, 900), (390, 844)
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # test containers have no user namespaces, and the pages are the tests' own
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
    "--use-angle=swiftshader",  # WebGL2 without a GPU
    "--enable-unsafe-swiftshader",
)
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")


def find_chromium() -> str | None:
    """Find the browser: MEDLOOP_CHROMIUM, else the first of the usual names in PATH."""
    return os.environ.get("MEDLOOP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Watch:
    """Errors and requests of a page."""

    complaints: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        """Listen to a page."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        scheme = request.url.partition(":")[0]
        itself = scheme == "file" and request.is_navigation_request() and request.frame.parent_frame is None
        if not itself and scheme not in ("data", "blob"):
            self.complaints.append(f"request: {request.url}")


# Playwright runs an event loop in this thread: stop it with this folder's tests, because other tests run their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of this folder."""
    executable = find_chromium()
    if executable is None:
        if os.environ.get("MEDLOOP_NEEDS_BROWSER") == "1":
            pytest.fail("no Chromium, and MEDLOOP_NEEDS_BROWSER=1; `make browser` installs it")
        pytest.skip("no Chromium; `make browser` installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=[*FLAGS])
        yield launched
        launched.close()


def watched(browser: Browser, size: tuple[int, int]) -> Iterator[Page]:
    """A page of this size that fails at its end if it complained."""
    narrow = size == PHONE
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, is_mobile=narrow, has_touch=narrow, reduced_motion="reduce"
    )
    page, watch = context.new_page(), Watch()
    watch.follow(page)
    yield page
    context.close()
    assert watch.complaints == []


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page as wide as a desktop's."""
    yield from watched(browser, DESKTOP)


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A page as wide as a phone's, with touch."""
    yield from watched(browser, PHONE)


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def screen(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A desktop and a phone, one after the other."""
    yield from watched(browser, request.param)


def show(page: Page, path: Path) -> None:
    """Open a file, and wait until it has loaded."""
    page.goto(path.absolute().as_uri(), wait_until="load")


def violations(page: Page) -> list[str]:
    """Violations of WCAG 2.2 A and AA by axe-core, including colour contrast, one line each."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": {"type": "tag", "values": [*RULES]}, "resultTypes": ["violations"]}
    rules: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {' '.join(node.get('failureSummary', rule['help']).split())}"
        for rule in rules
        for node in rule["nodes"]
    ]


def assert_accessible(page: Page) -> None:
    """Fail with the violations as text."""
    lines = violations(page)
    assert lines == [], "\n".join(lines)


def sideways(page: Page) -> int:
    """Pixels by which the page is wider than its window; 0 for a page without horizontal scrolling."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def unreached(page: Page) -> list[str]:
    """Outer HTML of controls that Tab does not reach, or that show no focus."""
    page.evaluate(
        """() => {
            window.__seen = new Set();
            window.__wanted = [...document.querySelectorAll(
                'a[href], button, input, select, textarea, summary, [tabindex="0"]')]
                .filter(e => !e.disabled && e.checkVisibility({visibilityProperty: true}));
            document.activeElement.blur();
            window.scrollTo(0, 0);
        }"""
    )
    for _ in range(page.evaluate("window.__wanted.length") + 5):
        page.keyboard.press("Tab")
        page.evaluate(
            """() => {
                const e = document.activeElement, s = getComputedStyle(e);
                const outlined = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0;
                if (outlined || s.boxShadow !== 'none') window.__seen.add(e);
            }"""
        )
    missed: list[str] = page.evaluate(
        "() => window.__wanted.filter(e => !window.__seen.has(e)).map(e => e.outerHTML.slice(0, 120))"
    )
    return missed
