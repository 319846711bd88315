"""Makes docs/images of a running instance's dashboard: dashboard_images.py URL USER [SECONDS]

Run it with the Python of build/release/browser-tools, which tests/integration/dashboard_kafka_test.py makes. The instance wants
items.file and events that keep coming; the lines of the charts grow for SECONDS (75) before the pictures are taken.
"""

import pathlib
import shutil
import sys
import time

from playwright.sync_api import sync_playwright

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "images"
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
}


def main(url, user, seconds="75"):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        pages = {name: browser.new_context(**look).new_page() for name, look in LOOKS.items()}
        for page in pages.values():
            page.goto(url)
            page.fill("#user", user)
            page.press("#user", "Enter")
        time.sleep(float(seconds))
        for name, page in pages.items():
            for _ in range(2):
                page.locator("#recommendations button").nth(1).click()
                page.wait_for_selector("#live-message[data-took]")
                time.sleep(1.5)  # until the colours of what has changed are gone
            top = "document.querySelector('#live')" if name == "phone" else "document.body"
            page.evaluate(f"document.activeElement.blur(); {top}.scrollIntoView({{behavior: 'instant'}})")
            page.mouse.move(0, 0)
            page.screenshot(path=IMAGES / f"dashboard-{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
