"""Picture of the page for the documents: `python tests/browser/picture.py URL FILE.png`, with `CHROMIUM` set."""

import os
import sys

from playwright.sync_api import sync_playwright

_WARM_UPS = 5


def main() -> None:
    """Rank the page's own example, a few times so that all is warm, and take the picture."""
    url, path = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 780}, reduced_motion="reduce", color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(url)
        for _ in range(_WARM_UPS):
            page.click("#go")
            page.wait_for_selector("body:not(.busy) #hits .hit")
        page.hover("#hits .hit:nth-child(1) .text")
        page.screenshot(path=path)
        browser.close()


main()
