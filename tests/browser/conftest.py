"""Chromium, driven as a reader would; each test also proves that the page fetches nothing and complains of nothing."""

import json

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from opcount.reporter.html import render
from scripts.screenshots import browser, missing


@pytest.fixture(scope="session")
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


def requests(chromium):
    for entry in chromium.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]


class Page:
    """Page in a browser, as a reader sees and uses it."""

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
        return [found.text for found in self.all(selector)]

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
        return [found.get_attribute("data-path") for found in self.all(".cell[data-path]")]

    def rows(self):
        """Return the paths in the table of modules, from top to bottom."""
        return [found.get_attribute("data-path") for found in self.all("#module-table tbody tr")]

    def row(self, path):
        """Return what the table says of a module, by column."""
        columns = [found.get_attribute("data-column") for found in self.all("#module-table th[data-column]")]
        cells = self.all(f'#module-table tr[data-path="{path}"] > *')
        return dict(zip(columns, [cell.text for cell in cells], strict=True))

    def color(self, path):
        return self.cell(path).value_of_css_property("background-color")
