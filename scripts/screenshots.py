"""Take the README's pictures of the HTML report: ``python scripts/screenshots.py``. Needs Chromium and its driver."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from base64 import b64decode
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from selenium import webdriver
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from opcount import OpCounter
from opcount.reporter.html import render
from scripts.examples.resnet50 import resnet50

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opcount import Profile

ASSETS = Path(__file__).resolve().parents[1] / "docs/images"
COLORS = 160
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
    "--hide-scrollbars", "--window-size=1400,1000",
)  # fmt: skip


def missing() -> list[str]:
    """Return the programs that are needed and not installed."""
    return [name for name in ("chromium", "chromedriver") if not shutil.which(name)]


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Run a Chromium of one's own, without a window; it writes down what it requests and complains of."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for option in (*OPTIONS, f"--user-data-dir={folder}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        driver.set_page_load_timeout(60)
        try:
            yield driver
        finally:
            driver.quit()


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ASSETS, help="where to (default: %(default)s)")
    folder: Path = parser.parse_args().folder
    if missing():
        parser.error(f"{' and '.join(missing())} not found. Install them, on Debian as chromium and chromium-driver.")
    folder.mkdir(exist_ok=True)
    before, after = _count(resnet50()), _count(_resnext50())
    with browser() as driver:
        _take(driver, render(before, title="ResNet-50, one training step"), folder / "report.png", theme="light")
        title = "ResNet-50 becomes ResNeXt-50"
        _take(driver, render(after, baseline=before, title=title), folder / "diff.png", theme="dark")


def _count(model: nn.Module) -> Profile:
    with OpCounter(model, dry_run=True) as c:
        model(torch.empty(1, 3, 224, 224)).sum().backward()
    return c.profile


def _resnext50() -> nn.Module:
    model = resnet50()
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:
            width, stride = 2 * block.conv2.out_channels, block.conv2.stride
            block.conv1 = nn.Conv2d(block.conv1.in_channels, width, 1, bias=False)
            block.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=32, bias=False)
            block.conv3 = nn.Conv2d(width, block.conv3.out_channels, 1, bias=False)
            block.bn1, block.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
    return model


def _take(driver: webdriver.Chrome, page: str, file: Path, theme: str) -> None:
    """Open a page and store a picture of its upper part, in few colours."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "report.html"
        source.write_text(page, encoding="ascii")
        driver.get(source.as_uri())
        driver.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        driver.find_element("css selector", '.cell[data-path="layer3"]')
        clip = {"x": 0, "y": 0, "width": 1385, "height": 900, "scale": 1}
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    image = Image.open(BytesIO(b64decode(shot["data"]))).convert("RGB")
    image.quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
