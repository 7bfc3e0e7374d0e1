"""The fixtures detect errors, requests and violations of a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Watch, show, sideways, unreached, violations

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>t</title><body><main><h1>t</h1>"
)


def written(folder: Path, body: str) -> Path:
    """Write a page with this body."""
    path = folder / "page.html"
    path.write_text(f"{HEAD}{body}</main></body></html>", encoding="utf-8")
    return path


@pytest.mark.slow
def test_webgl2_works_by_software(page: Page, tmp_path: Path) -> None:
    """A volume viewer draws without a GPU."""
    show(page, written(tmp_path, "<canvas></canvas>"))
    assert page.evaluate("document.querySelector('canvas').getContext('webgl2') !== null")


@pytest.mark.slow
def test_errors_and_requests_are_detected(browser: Browser, tmp_path: Path) -> None:
    """A console error, an exception, an image from the network and a file next to the page are named."""
    (tmp_path / "style.css").write_text("")
    body = (
        '<script>console.error("logged")</script><script>throw new Error("thrown")</script>'
        '<link rel="stylesheet" href="style.css"><img alt="x" src="http://127.0.0.1:9/x.png">'
        '<img alt="y" src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'
    )
    watch, page = Watch(), browser.new_page()
    watch.follow(page)
    show(page, written(tmp_path, body))
    page.close()
    complaints = "\n".join(watch.complaints)
    assert all(
        word in complaints for word in ("console: logged", "script error: thrown", "style.css", "127.0.0.1:9/x.png")
    )
    assert [line for line in watch.complaints if line.endswith("page.html") or "data:" in line] == []


@pytest.mark.slow
def test_accessibility_violations_are_described(page: Page, tmp_path: Path) -> None:
    """Pale text and an image without alternative text are violations, each with its location; a plain page has none."""
    show(page, written(tmp_path, '<p id="pale" style="color:#bbb;background:#fff">pale</p><img src="data:,">'))
    pale, *rest = sorted(violations(page))
    assert "color-contrast" in pale
    assert "#pale" in pale
    assert "image-alt" in rest[0]
    show(page, written(tmp_path, "<p>plain</p>"))
    assert violations(page) == []


@pytest.mark.slow
def test_a_control_without_focus_and_a_page_too_wide_are_detected(phone: Page, tmp_path: Path) -> None:
    """A button that shows no focus is named; one that does, and hidden ones, are not."""
    body = '<button style="outline:0">dull</button><button>plain</button><button hidden>no</button>'
    show(phone, written(tmp_path, f'{body}<div style="width:600px">wide</div>'))
    (missed,) = unreached(phone)
    assert "dull" in missed
    assert sideways(phone) > 100
