"""The dashboard in a real browser, Debian's Chromium, beside a real broker: it shows what happens and says what does not.

Playwright and axe come from PyPI into $FRESHET_BROWSER_TOOLS, a virtual environment that this makes when it is not there.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

from kafka_support import ADDRESS, ROOT, kcat
from run_kafka_test import ITEMS, KafkaCase
from support import event, main

TOOLS = pathlib.Path(os.environ.get("FRESHET_BROWSER_TOOLS", "browser-tools"))
PACKAGES = ("playwright==1.65.2", "axe-playwright-python==0.1.8")
DEMO = pathlib.Path(__file__).resolve().parents[2] / "models/demo"
WAIT_MS = 60_000  # for anything that takes a second on an idle machine
CLICKS = 10
EVENTS_PER_SECOND = 100
SCRIPT = "<img src=x onerror=document.title='broken'>"
# What the instance could not answer, Chromium says on the console; nothing else may be there.
FAILED_REQUEST = "Failed to load resource"


class Feeder:
    """Clicks of now, now and then a record that is none, while the block runs."""

    def __init__(self, topic, numbers):
        self.numbers = numbers
        self.done = threading.Event()
        command = ["kcat", "-P", "-b", ADDRESS, "-t", topic, "-K", "\t", "-X", "partitioner=murmur2_random"]
        self.kcat = subprocess.Popen(command, stdin=subprocess.PIPE)
        self.thread = threading.Thread(target=self.feed)

    def line(self, number):
        user = f"u{self.numbers.randrange(60)}"
        if number % 97 == 5:
            return f"{user}\tnot an event {SCRIPT}\n"
        return f"{user}\t{json.dumps(event(user, f'i{1 + self.numbers.randrange(ITEMS)}', int(time.time() * 1000)))}\n"

    def feed(self):
        began, number = time.monotonic(), 0
        while not self.done.wait(0.02):
            while number < (time.monotonic() - began) * EVENTS_PER_SECOND:
                self.kcat.stdin.write(self.line(number).encode())
                number += 1
            self.kcat.stdin.flush()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.kcat.stdin.close()
        self.kcat.wait()


class Dashboard(KafkaCase):
    guarantee = "exactly_once"

    def setUp(self):
        super().setUp()
        items = [{"item_id": f"i{n}", "title": f"Item number {n}", "category": "tests"} for n in range(1, ITEMS)]
        items[4]["title"] += f" {SCRIPT}"
        self.write("items.jsonl", "".join(json.dumps(item) + "\n" for item in items))  # the last item has no title
        self.requested, self.errors = [], []
        tools = contextlib.ExitStack()
        self.addCleanup(tools.close)
        playwright = tools.enter_context(sync_playwright())
        # Chromium refuses to run as root in its sandbox.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        tools.callback(self.browser.close)

    def run_it(self, **more):
        return self.start(items__file=self.path("items.jsonl"), **more)

    def open(self, port, **options):
        page = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/")
        return page

    def port_of(self, process):
        self.wait_for(lambda: "on port" in self.said(process), "it does not serve")
        return int(self.said(process).split("on port ")[1].split()[0].rstrip(";"))

    def wait_for_state(self, page, word):
        page.wait_for_function("word => document.querySelector('#state').textContent === word", arg=word)

    def tile(self, page, name):
        return page.locator("#tiles > div", has_text=name).locator(".value").inner_text()

    def show_user(self, page, user):
        page.fill("#user", user)
        page.press("#user", "Enter")
        page.wait_for_function("() => document.querySelectorAll('#recommendations li').length === 5")

    def recommended(self, page):
        return page.locator("#recommendations .what").evaluate_all("all => all.map(one => one.firstChild.textContent)")

    def wait_for_new_list(self, page):
        """Milliseconds from the click to the new list, as the page has measured them."""
        return float(page.wait_for_selector("#live-message[data-took]").get_attribute("data-took"))

    def test_the_page_of_consume_md_changes_with_each_record(self):
        serve = self.start_command("serve", serve__directory=str(self.path("served")))
        html = re.search(r"```html\n(.*?)```", (ROOT / "docs/consume.md").read_text(), re.S)[1]
        page = self.browser.new_context().new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route("**/recommendations.html*", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto(f"http://127.0.0.1:{self.port_of(serve)}/recommendations.html?user=u1")
        for number in range(1, 4):
            items = [f"i{number}", "i9"]
            record = {"user_id": "u1", "sequence_number": number, "items": [{"item_id": item, "score": 1} for item in items]}
            kcat("-P", "-t", self.answers, "-K", "\t", input=f"u1\t{json.dumps(record)}\n".encode())
            shown = "items => [...document.querySelectorAll('#items li')].map((item) => item.textContent).join() === items"
            page.wait_for_function(shown, arg=",".join(items))
        kcat("-P", "-t", self.answers, "-K", "\t", "-Z", input=b"u1\t\n")  # a tombstone
        page.wait_for_function(shown, arg="")
        self.assertEqual(self.errors, [])
        self.stop(serve)

    def test_it_shows_what_happens(self):
        process = self.run_it()
        self.wait_until_ready(process)
        with Feeder(self.events, self.numbers):
            page = self.open(self.port_of(process))
            self.wait_for_state(page, "Ready")
            self.numbers_move(page)
            self.dead_letters_have_samples(page)
            self.assertEqual(self.errors, [])
            self.clicks_change_the_list(page)
            self.it_is_usable_by_keyboard_alone(page)
            self.everybody_can_read_it(page)
        unknown_user = f"{FAILED_REQUEST}: the server responded with a status of 404 (Not Found)"
        self.assertEqual(set(self.errors) - {unknown_user}, set())
        origin = f"http://127.0.0.1:{self.port_of(process)}/"
        self.assertEqual([url for url in self.requested if not url.startswith((origin, "data:image/svg"))], [])
        self.it_survives_a_restart(page, process)

    def numbers_move(self, page):
        page.wait_for_function("() => parseFloat(document.querySelector('#tiles .value').textContent) > 20")
        before = page.locator("#tiles .more").first.inner_text()
        page.wait_for_function("text => document.querySelector('#tiles .more').textContent !== text", arg=before)
        for name in ("Latency", "Lag", "Hot cache hits"):
            self.assertRegex(self.tile(page, name), r"\d", name)
        self.assertEqual(page.locator("#partitions tr").count(), 4)
        self.assertIn("µs", page.locator("#stages").inner_text())
        for part, texts in {
            "#cache-facts": (r"Still to be restored\s+0\.0 %",),
            "#disk-facts": (r"In memory, in no table yet\s+[1-9][\d.]* [KM]iB", r"Commits waited for it\s+\d+ \S*s"),
            "#commit-facts": (r"A commit takes\s+[\d.]+ m?s, p99 [\d.]+ m?s", r"Spent on outputs\s+[\d.]+ %", r"Rebalances\s+[1-9]"),
            "#model-facts": (r"Items clicked in the list before\s+[\d.]+ % of [1-9]",),
        }.items():
            for text in texts:
                page.wait_for_function(
                    "([part, text]) => new RegExp(text).test(document.querySelector(part).innerText)", arg=[part, text]
                )
        drawn = "id => Chart.getChart(id).data.datasets[0].data.filter(point => point.y > 0).length > 1"
        page.wait_for_function(drawn, arg="throughput")
        quantiles = page.evaluate("""async () => {
          const { Scrapes, parse } = await import("/dashboard/metrics.js");
          const text = (a, b, c) => `process_start_time_seconds 1\\nh_bucket{le="0.1"} ${a}\\nh_bucket{le="0.2"} ${b}\\nh_bucket{le="+Inf"} ${c}\\n`;
          const scrapes = new Scrapes(60);
          scrapes.add(0, parse(text(50, 50, 50)));
          scrapes.add(10, parse(text(60, 90, 100)));
          return scrapes.quantiles("h", 10, [0.1, 0.5, 0.99]).map((q) => q.toFixed(6));
        }""")
        self.assertEqual(quantiles, ["0.050000", "0.150000", "Infinity"])

    def dead_letters_have_samples(self, page):
        reason = page.locator("#letters details[data-reason=invalid_json]")
        reason.locator("summary").click()
        self.assertIn(f"not an event {SCRIPT}", reason.locator("pre").first.inner_text())
        self.assertIn(self.events, reason.locator(".sample").first.inner_text())
        time.sleep(1.5)  # it is drawn anew each second
        self.assertTrue(reason.locator("pre").first.is_visible(), "what is open stays open")

    def clicks_change_the_list(self, page):
        page.fill("#user", "shopper/1")
        page.press("#user", "Enter")
        page.wait_for_function("() => document.querySelector('#live-message').textContent.includes('No events of')")
        page.fill("#item", f"i{ITEMS}")
        page.press("#item", "Enter")
        took = [self.wait_for_new_list(page)]
        page.wait_for_function("n => document.querySelector('#clicks')?.textContent.includes(n)", arg=f"i{ITEMS}")
        for _ in range(CLICKS):
            before = self.recommended(page)
            page.locator("#recommendations button").nth(1).click()
            took.append(self.wait_for_new_list(page))
            after = self.recommended(page)
            self.assertNotEqual(after, before)
            self.assertNotIn(before[1], after, "what was seen is not recommended again")
            page.wait_for_function(
                "name => document.querySelector('#clicks .what').firstChild.textContent === name", arg=before[1]
            )
        self.assertIn(f"{CLICKS + 1} events", page.locator("#user-facts").inner_text())
        self.assertTrue(all(name.startswith("Item number") for name in after), after)
        self.tell("a real broker, exactly once", took)
        self.assertEqual(page.title(), f"{self.application} · freshet", "titles and records are text, never markup")

    def tell(self, where, took):
        print(f"click to new list on screen, {where}, ms: median {statistics.median(took):.0f}, of {len(took)} the longest {max(took):.0f}")

    def test_a_click_in_the_playground(self):
        settings = {"http.listen": "127.0.0.1:0", "model.directory": DEMO, "recommend.top_k": 5}
        process = self.start_program("run", "--embedded-broker", "--shoppers", "50", settings=settings)
        page = self.open(self.port_of(process))
        self.wait_for_state(page, "Ready")
        page.fill("#user", "somebody")
        page.press("#user", "Enter")
        page.fill("#item", "i1")
        took = [self.click_until_taken(page, lambda: page.press("#item", "Enter"))]
        for _ in range(2 * CLICKS):
            before = self.recommended(page)
            took.append(self.click_until_taken(page, page.locator("#recommendations button").nth(1).click))
            self.assertNotIn(before[1], self.recommended(page))
        self.tell("the embedded broker", took)

    def click_until_taken(self, page, click):
        """As a person would: a busy machine may not acknowledge a click in time, and says so."""
        while True:
            click()
            said = page.wait_for_selector("#live-message[data-took], #live-message[data-tone=bad]")
            if took := said.get_attribute("data-took"):
                return float(took)
            self.assertIn("did not go through", said.inner_text())

    def it_is_usable_by_keyboard_alone(self, page):
        page.locator("#user").focus()
        seen = []
        for _ in range(4):
            page.keyboard.press("Tab")
            seen.append(
                page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")
            )
        self.assertEqual(seen[0], "Show")
        self.assertRegex(seen[1], "^Click Item number")
        before = self.recommended(page)
        page.keyboard.press("Enter")
        self.wait_for_new_list(page)
        self.assertNotEqual(self.recommended(page), before)
        focused = page.evaluate(
            "[...document.querySelectorAll('#recommendations button')].indexOf(document.activeElement)"
        )
        self.assertEqual(focused, 2, "the focus stays where it was in the list")
        page.reload()  # where Tab then begins is the browser's to decide
        page.wait_for_selector("#recommendations button")  # of the user in the address
        fresh = self.open(self.port_in(page))
        fresh.keyboard.press("Tab")
        self.assertEqual(fresh.evaluate("document.activeElement.textContent"), "Skip to the numbers")
        fresh.close()

    def port_in(self, page):
        return page.url.split(":")[2].split("/")[0]

    def everybody_can_read_it(self, page):
        port = self.port_in(page)
        looks = {
            "light": {"color_scheme": "light"},
            "dark": {"color_scheme": "dark"},
            "phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
        }
        grounds = {}
        for name, options in looks.items():
            other = self.open(port, **options)
            self.wait_for_state(other, "Ready")
            self.show_user(other, "shopper/1")
            grounds[name] = other.evaluate("getComputedStyle(document.body).backgroundColor")
            self.assertLessEqual(
                other.evaluate("document.documentElement.scrollWidth"),
                options.get("viewport", {"width": 1280})["width"],
            )
            other.wait_for_function("() => document.querySelectorAll('#clicks li').length > 1")
            found = Axe().run(other)
            self.assertEqual(found.violations_count, 0, f"{name}: {found.generate_report()}")
            other.context.close()
        self.assertNotEqual(grounds["light"], grounds["dark"])

    def it_survives_a_restart(self, page, process):
        port = self.port_of(process)
        self.stop(process)
        self.wait_for_state(page, "No answer")
        self.assertRegex(page.locator("#banner").inner_text(), r"has not answered since \d\d:\d\d:\d\d")
        again = self.run_it(http__listen=f"127.0.0.1:{port}")
        self.wait_until_ready(again)
        self.wait_for_state(page, "Ready")
        page.wait_for_function("() => document.querySelector('#banner').hidden")
        page.wait_for_function("() => !document.body.classList.contains('stale')")
        self.assertEqual([text for text in self.errors if not text.startswith(FAILED_REQUEST)], [])

    def test_it_says_what_is_missing(self):
        process = self.run_it(kafka__bootstrap_servers="127.0.0.1:1")
        page = self.open(self.port_of(process))
        self.wait_for_state(page, "Not ready")
        self.assertIn("kafka", page.locator("#banner").inner_text())
        status = json.loads(self.ask(process, "/v1/status")[1]) | {"restoring_partitions": 3, "restored_records": 12345}
        page.route("**/v1/status", lambda route: route.fulfill(json=status))
        page.wait_for_function("() => document.querySelector('#banner').textContent.includes('12,345 records so far')")
        self.assertIn("Restoring 3 partitions", page.locator("#banner").inner_text())
        process.kill()
        self.wait_for_state(page, "No answer")
        self.assertTrue(page.evaluate("document.body.classList.contains('stale')"))

    def test_it_asks_for_a_token_where_one_is_needed(self):
        process = self.run_it(kafka__bootstrap_servers="127.0.0.1:1")
        page = self.browser.new_context().new_page()
        page.set_default_timeout(WAIT_MS)
        refusal = {"status": 401, "content_type": "application/problem+json", "body": '{"detail":"expected a token"}'}

        def guard(route):
            known = route.request.headers.get("authorization") == "Bearer s3cret"
            return route.continue_() if known else route.fulfill(**refusal)

        page.route("**/v1/*", guard)
        page.route("**/metrics", guard)
        page.goto(f"http://127.0.0.1:{self.port_of(process)}/")
        page.wait_for_selector("#token-dialog[open]")
        page.keyboard.press("Escape")
        self.wait_for_state(page, "Locked")
        time.sleep(2)
        self.assertIsNone(page.query_selector("#token-dialog[open]"), "who declines is not asked again")
        page.click("#token-open")
        for token in ("wrong", "s3cret"):
            page.wait_for_selector("#token-dialog[open]")
            page.fill("#token", token)
            page.press("#token", "Enter")
        self.wait_for_state(page, "Not ready")
        page.reload()
        self.wait_for_state(page, "Not ready")
        self.assertIsNone(page.query_selector("#token-dialog[open]"), "the tab keeps it")
        process.kill()


def missing_tools():
    """Makes $FRESHET_BROWSER_TOOLS where it is not there; what is missing all the same."""
    if shutil.which("chromium") is None:
        return "there is no chromium (deploy/install-dependencies.sh test)"
    if pathlib.Path(sys.prefix).resolve() == TOOLS.resolve():
        return None
    python, installed = str(TOOLS / "bin" / "python"), TOOLS / "installed"
    if not installed.exists() or installed.read_text() != str(PACKAGES):
        making = [sys.executable, "-m", "venv", "--clear", str(TOOLS)]
        for command in (making, [python, "-m", "pip", "install", "--quiet", *PACKAGES]):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                return f"{' '.join(command)}: {done.stdout}{done.stderr}"
        installed.write_text(str(PACKAGES))
    os.execv(python, [python, "-B", *sys.argv])


if __name__ == "__main__":
    if missing := missing_tools():
        print(f"skipped: {missing}")
        sys.exit(1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77)
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    main()
