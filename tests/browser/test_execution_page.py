"""The page of an execution in a real browser: accessible, usable by keyboard, without requests, live while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from medloop.commands.execution.execution_page import ExecutionPage as Followed
from medloop.commands.execution.page_view import ViewReader
from tests.browser.conftest import assert_accessible, show, sideways, unreached
from tests.unit.cli.account import Account
from tests.unit.cli.executions import (
    HOSTILE,
    STEPS,
    add_evidence,
    add_split,
    add_training,
    add_tuning,
    definition,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

TRAIN = {"Name": "Train", "Type": "Training", "Arguments": {}, "DependsOn": ["Split"]}
EVERY = 0.3
AT_EASE = 2.0
"""Seconds between reloads of the page."""


def running(account: Account) -> str:
    """An execution whose training runs."""
    arn = account.add_execution("abc123abc123", "Executing")
    add_split(account, arn)
    add_training(account, arn, "Executing")
    account.definitions[arn] = definition(STEPS[0], TRAIN, {**STEPS[2], "DependsOn": ["Train"]})
    return arn


def tuned(account: Account) -> str:
    """An execution that tuned, evaluated and registered."""
    arn = account.add_execution("abc123abc123", "Succeeded")
    add_split(account, arn)
    add_tuning(account, arn, last="done")
    add_evidence(account, arn)
    account.definitions[arn] = definition(*STEPS)
    return arn


def failed(account: Account) -> str:
    """A failed execution with a log and a reason that contain markup."""
    arn = account.add_execution("abc123abc123", "Failed", FailureReason=f"it {HOSTILE}")
    add_split(account, arn)
    add_training(account, arn, "Failed")
    account.steps[arn][-1]["FailureReason"] = f"AlgorithmError: {HOSTILE} {'unbroken' * 60}"
    account.logs["t-1/algo-1"] += ["x" * 5000, "\x1b[31mred\x1b[0m\x07", "10%\r20%", HOSTILE]
    account.definitions[arn] = definition(STEPS[0], TRAIN)
    return arn


@pytest.fixture
def account(tmp_path: Path) -> Account:
    """An empty account."""
    return Account(tmp_path / "account")


@pytest.fixture
def page_of(account: Account, tmp_path: Path) -> Callable[[str], Followed]:
    """Make the page of an execution on AWS, with known costs."""
    target = cast(Any, SimpleNamespace(name="aws", boto=account.boto, bucket="bucket"))
    return lambda arn: Followed(ViewReader(target, tmp_path / "home", arn), tmp_path / "page.html", "", EVERY)


def opened(page: Page) -> None:
    """Expand every section."""
    page.eval_on_selector_all("details", "parts => parts.forEach(part => { part.open = true; })")


def evaluated(page: Page, script: str) -> object:
    """Evaluate a script in a page that may reload at any moment."""
    from playwright.sync_api import Error

    for _ in range(5):
        try:
            return page.evaluate(script)
        except Error:
            page.wait_for_load_state()
    return page.evaluate(script)


@pytest.mark.slow
@pytest.mark.parametrize("make", [running, tuned, failed])
def test_a_page_is_accessible_and_fits(
    screen: Page, account: Account, page_of: Callable[[str], Followed], make: Callable[[Account], str]
) -> None:
    """All sections expanded: no violation, visible focus on every control, no horizontal scrolling."""
    followed = page_of(make(account))
    followed.draw(follow=False)
    show(screen, followed.path)
    assert unreached(screen) == []
    opened(screen)
    assert_accessible(screen)
    assert sideways(screen) == 0


@pytest.mark.slow
def test_the_dark_theme_is_accessible(page: Page, account: Account, page_of: Callable[[str], Followed]) -> None:
    """Colours have sufficient contrast in the dark theme."""
    followed = page_of(failed(account))
    followed.draw(follow=False)
    page.emulate_media(color_scheme="dark")
    show(page, followed.path)
    opened(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 26)"
    assert_accessible(page)


@pytest.mark.slow
def test_a_hostile_log_stays_text(page: Page, account: Account, page_of: Callable[[str], Followed]) -> None:
    """Logs and reasons run no script and create no element; colour codes and overwritten text are removed."""
    page.on("dialog", lambda dialog: pytest.fail(f"the page ran a script: {dialog.message}"))
    followed = page_of(failed(account))
    followed.draw(follow=False)
    show(page, followed.path)
    log = page.inner_text("#step-Train pre")
    assert log.count("<script>alert(1)</script>") == 1
    assert "\nred\n20%\n" in log
    assert page.locator("img, script").count() == 0
    assert page.locator("section.failure").bounding_box()["y"] < 200  # type: ignore[index]


@pytest.mark.slow
def test_a_followed_page_keeps_its_state(page: Page, account: Account, page_of: Callable[[str], Followed]) -> None:
    """A reload shows new content and keeps expanded sections, focus and scroll; after the end there is no reload."""
    arn = running(account)
    followed = page_of(arn)
    replace(followed, every=AT_EASE).draw(follow=True)
    show(page, followed.path)
    page.click("#of-Split")
    page.focus("#of-Train")
    page.evaluate("scrollTo(0, 250)")
    account.logs["t-1/algo-1"] += ["a new line"]
    account.steps[arn][-1] |= {"StepStatus": "Succeeded", "EndTime": account.executions[arn]["LastModifiedTime"]}
    view = followed.draw(follow=True)
    page.wait_for_selector("#of-Train .succeeded")
    state = "[scrollY, document.activeElement.id, document.getElementById('step-Split').open]"
    assert evaluated(page, state) == [250, "of-Train", True]
    assert "a new line" in page.text_content("#step-Train pre")  # type: ignore[operator]

    followed.follow(view, lambda _: account.executions[arn].update(PipelineExecutionStatus="Succeeded"))
    page.wait_for_selector(".badge.succeeded")
    assert evaluated(page, state) == [250, "of-Train", True]
    page.evaluate("window.loaded = 1")
    page.wait_for_timeout(3000 * EVERY)
    assert page.evaluate("window.loaded") == 1


@pytest.mark.slow
def test_a_followed_page_can_be_paused(page: Page, account: Account, page_of: Callable[[str], Followed]) -> None:
    """A paused page does not reload, also after a manual reload; a resumed page does."""
    followed = page_of(running(account))
    replace(followed, every=AT_EASE).draw(follow=True)
    show(page, followed.path)
    page.click("#pause")
    followed.draw(follow=True)
    page.reload()
    page.evaluate("window.loaded = 1")
    page.wait_for_timeout(3000 * EVERY)
    assert page.evaluate("window.loaded") == 1
    assert page.inner_text("#pause") == "Resume updating"
    assert_accessible(page)
    with page.expect_navigation():
        page.click("#pause")


@pytest.mark.slow
def test_a_page_without_its_command_reports_it(
    page: Page, account: Account, page_of: Callable[[str], Followed]
) -> None:
    """A page that is no longer updated stops reloading, and names the command to resume it."""
    followed = page_of(running(account))
    view = followed.draw(follow=True)
    page.clock.install(time=view.at + timedelta(minutes=10))
    show(page, followed.path)
    page.clock.fast_forward(2000 * EVERY)
    assert "medloop executions open abc123abc123 --follow" in page.inner_text("#live")
    assert page.is_hidden("#pause")


@pytest.mark.slow
def test_print_shows_every_section(page: Page, account: Account, page_of: Callable[[str], Followed]) -> None:
    """Collapsed sections are printed too: inputs, logs."""
    followed = page_of(tuned(account))
    followed.draw(follow=False)
    show(page, followed.path)
    seen = "[...document.querySelectorAll('#step-Split pre, #step-Tune dl')].map(part => part.checkVisibility())"
    assert not any(page.evaluate(seen))
    page.emulate_media(media="print")
    assert all(page.evaluate(seen))
    assert len(page.pdf()) > 20_000
