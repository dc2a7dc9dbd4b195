"""Chromium, driven as a reader would; each test also proves that the page fetches nothing and complains of nothing."""

import json

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from opcount.reporter.html import render
from scripts.screenshots import browser, missing


@pytest.fixture(scope="package")
def chromium():
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    with browser() as driver:
        yield driver


@pytest.fixture
def page(chromium, tmp_path):
    """Return a function that writes a report, opens it and returns it as a reader has it."""

    def open_page(profile, fragment="", **settings):
        chromium.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
        )
        file = tmp_path / "report.html"
        file.write_text(render(profile, **settings), encoding="ascii")
        chromium.get(f"{file.as_uri()}{fragment}")
        return Page(chromium, tmp_path / "downloads")

    chromium.get("about:blank")
    for log in ("browser", "performance"):
        chromium.get_log(log)
    yield open_page
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert [entry for entry in chromium.get_log("browser") if entry["level"] != "INFO"] == []
    assert [url for url in requests(chromium) if not url.startswith(("file:", "data:", "about:"))] == []


_TEXTS = """
return [...document.querySelectorAll(arguments[0])]
  .map((node) => (node.checkVisibility() ? node.innerText.trim() : ""));
"""
_ATTRIBUTES = "return [...document.querySelectorAll(arguments[0])].map((node) => node.getAttribute(arguments[1]))"
_TABLE = """
const text = (node) => (node.checkVisibility() ? node.innerText.trim() : "");
const columns = [...document.querySelectorAll("#module-table th[data-column]")].map((node) => node.dataset.column);
return [...document.querySelectorAll("#module-table tr[data-path]")].map((row) =>
  [row.dataset.path, columns, [...row.children].map(text)]);
"""


def requests(chromium):
    for entry in chromium.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]


class Page:
    """Page in a browser, as a reader sees and uses it; what is said of many elements is asked for at once."""

    def __init__(self, driver, downloads):
        self.driver = driver
        self.downloads = downloads

    def download(self, selector):
        """Click a button and return the file that it saves."""
        before = set(self.downloads.glob("*"))
        self.click(selector)
        return WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: self._complete(before))

    def _complete(self, before):
        files = (file for file in self.downloads.glob("*") if file.suffix != ".crdownload")
        return next((file for file in files if file not in before), None)

    def emulate(self, media="", scheme="light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def resize(self, width, height=900):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        (found,) = self.all(selector)
        return found

    def text(self, selector):
        return self.one(selector).text

    def texts(self, selector):
        return self.run(_TEXTS, selector)

    def attributes(self, selector, name):
        return self.run(_ATTRIBUTES, selector, name)

    def click(self, selector):
        self.one(selector).click()

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys):
        """Send keys to what has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def search(self, text):
        self.one("#query").send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE, text)

    def cell(self, path):
        return self.one(f'.cell[data-path="{path}"]')

    def cells(self):
        return self.attributes(".cell[data-path]", "data-path")

    def rows(self):
        """Return the paths in the table of modules, from top to bottom."""
        return self.attributes("#module-table tbody tr", "data-path")

    def table(self):
        """Return what the table says of each module that it shows: texts by path and column."""
        return {path: dict(zip(columns, texts, strict=True)) for path, columns, texts in self.run(_TABLE)}

    def row(self, path):
        """Return what the table says of a module, by column."""
        return self.table()[path]

    def color(self, path):
        return self.cell(path).value_of_css_property("background-color")
