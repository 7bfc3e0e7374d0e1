"""Take screenshots of pages for the docs, in two sizes, with few colours to keep them small.

    python -m tests.browser.screenshots PAGE.html docs/pictures/execution-classification

writes `…-desktop.png` and `…-phone.png`. `--dark` takes the dark look, `--open SELECTOR` opens the `details` that fit,
`--height N` cuts after so many CSS pixels (desktop; the phone's picture, which is longer, after twice as many).
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.browser.conftest import DESKTOP, FLAGS, PHONE, find_chromium, show

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NUM_COLOURS = 256
MAX_PIXELS = 8000
"""Chromium repeats the beginning of a screenshot beyond 8192."""


def take(browser: Browser, page: Path, size: tuple[int, int], options: argparse.Namespace) -> Image.Image:
    """Take a screenshot of the complete page in a window of this size."""
    narrow = size == PHONE
    scale = 1.5 if narrow else 1.0
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        is_mobile=narrow,
        device_scale_factor=scale,
        color_scheme="dark" if options.dark else "light",
    )
    opened = context.new_page()
    show(opened, page)
    for selector in options.open:
        opened.eval_on_selector_all(selector, "parts => parts.forEach(part => { part.open = true; })")
    opened.wait_for_timeout(options.wait)
    tall = int(opened.evaluate("document.documentElement.scrollHeight"))
    most = options.height * (2 if narrow else 1) or tall
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(tall, most, MAX_PIXELS / scale)}
    taken = Image.open(io.BytesIO(opened.screenshot(full_page=True, clip=clip)))
    context.close()
    return taken.convert("RGB")


def main() -> None:
    """Read the command line, and take both screenshots."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path, help="where to write, without -desktop.png")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--open", action="append", default=[], metavar="SELECTOR")
    parser.add_argument("--height", type=int, default=0)
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="MS", help="before the picture, for what is drawn late"
    )
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS])
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            taken = take(browser, options.page, size, options)
            few = taken.quantize(NUM_COLOURS, kmeans=2, dither=Image.Dither.NONE)
            path = options.out.with_name(f"{options.out.name}-{name}.png")
            few.save(path, optimize=True)
            print(f"{path}: {few.width} x {few.height}, {path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main()
