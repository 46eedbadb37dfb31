"""Picture of the page for the documents: `python tests/browser/picture.py URL FILE.png`, with `CHROMIUM` set."""

import os
import sys

from playwright.sync_api import sync_playwright


def main() -> None:
    """Rank the page's own example and take the picture."""
    url, path = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 840}, reduced_motion="reduce", color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(url)
        page.click("#go")
        page.wait_for_selector("#hits .hit")
        page.hover("#hits .hit:nth-child(1) .text")
        page.screenshot(path=path)
        browser.close()


main()
