"""The page in a real browser: nothing is fetched, nothing is wrong, both colour schemes, every width, and paper.

Chromium is driven through its own protocol over two pipes (``--remote-debugging-pipe``), one JSON message after the
other, each ended by a zero byte.
"""

import base64
import io
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lspdmobile.choices import Cause
from lspdmobile.delegation import Basis, Delegation, Left
from lspdmobile.report.html import write_html
from lspdmobile.report.inspected import DelegationEntry, DiagnosisEntry
from lspdmobile.report.pictures import WorstPicture
from lspdmobile.report.schema import Report
from lspdmobile.report.shortfalls import shortfall_entries
from lspdmobile.report.style import PALETTES
from lspdmobile.shortfall import Shortfall
from lspdmobile.skeleton import LSP_14

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt install chromium)")

PATIENCE_S = 60
WIDE, NARROW, TALL = 1280, 390, 2400
SEEN = "[...document.querySelectorAll('details > :last-child')].map(part => part.checkVisibility())"
A4_IN = (8.27, 11.69)
FAILED = 9
"""Place of the artifact that failed."""


class Browser:
    """A headless Chromium with one page."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}")
        # Chromium reads from descriptor 3 and writes to 4.
        move = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", move, "bash", CHROMIUM, *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._unread, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        with suppress(OSError, AssertionError):
            self._session = ""
            self.send("Browser.close")
        try:
            self._process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and give what it answers; events that come before are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"Chromium says nothing for {PATIENCE_S} s"
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium is gone"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, page: Path) -> None:
        """Go to a file and wait until all of it is there."""
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def shape(self, width: int, *, scheme: str = "light", medium: str = "screen") -> None:
        """Give the page a width, a reader who prefers a scheme, and what it is shown on."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=TALL, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=medium, features=features)

    def value(self, expression: str) -> Any:
        """Evaluate in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> NDArray[np.int64]:
        """Give what is seen, RGB ``[rows, columns, 3]``."""
        data = self.send("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), np.int64)

    def faults(self) -> list[str]:
        """Give what the page's console and log hold, and what it fetched beside itself."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        told = [json.dumps(event["params"]) for event in self.events if event.get("method") in methods]
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return told + [url for url in urls[1:] if not url.startswith("data:")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that all tests share."""
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def _left_and_named(evil: str) -> dict[str, Any]:
    """Give a failed artifact operators that are left behind or in doubt, layers not honoured, and a cause."""

    def left(name: str, why: str) -> Left:
        return Left(operator=name, kind="HARD_SWISH", macs=0, rule="", why=why)

    partition = Delegation(
        delegate="XNNPACK",
        target="litert-xnnpack",
        delegated=50,
        total=57,
        not_delegated=("HARD_SWISH x7",),
        left=(*(left(f"act_{i}", "in float only") for i in range(6)), left(evil, evil)),
    )
    rules = Delegation(
        delegate="LiteRT GPU",
        target="litert-gpu",
        basis=Basis.RULES,
        delegated=57,
        total=57,
        doubtful=(left("a", "b"),),
    )
    shortfall = Shortfall(layer=evil, wanted="int8", found="float32", reason="left in float")
    return {
        "delegation": DelegationEntry.of(partition),
        "forecasts": (DelegationEntry.of(rules),),
        "not_honoured": shortfall_entries([shortfall] * 5),
        "diagnosis": DiagnosisEntry(cause=Cause.COLOUR, sentence=evil, explained=0.998),
    }


@pytest.fixture
def page(report: Report, tmp_path: Path) -> Path:
    """A page with every part, and names that would run if they could."""
    evil = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    maps = np.zeros((2, 24, 24), np.float32)
    maps[0, 3, 3] = maps[1, 9, 9] = 1
    points = np.full((14, 3), 60, np.float32)
    worst = WorstPicture(
        title=evil,
        picture=np.full((192, 192, 3), 128, np.uint8),
        float_keypoints=points,
        artifact_keypoints=points + 9,
        skeleton=LSP_14,
        drift_px=9.0,
        joint="neck",
        heatmaps=(maps[0], maps[1]),
    )
    artifact = report.artifacts[0].model_copy(
        update={"weight_bytes_by_layer": {evil: {"int8": 9}}, "reasons": (evil,), "file": evil}
    )
    broken = report.artifacts[FAILED].model_copy(update=_left_and_named(evil))
    others = (*report.artifacts[1:FAILED], broken, *report.artifacts[FAILED + 1 :])
    written = report.model_copy(update={"artifacts": (artifact, *others)})
    write_html(tmp_path / "report.html", written, worst=[worst], budget=1.0)
    return tmp_path / "report.html"


def test_it_opens_without_a_complaint_and_fetches_nothing(browser: Browser, page: Path) -> None:
    browser.shape(WIDE)
    browser.open(page)
    assert browser.faults() == []
    assert browser.value("document.title") == "lspd-s: parity report"
    assert browser.value("document.querySelectorAll('script, link, iframe').length") == 0
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.value("document.images.length") == 4


def test_a_page_that_fetches_or_complains_is_found(browser: Browser, page: Path) -> None:
    """The checks above see what they are for."""
    html = page.read_text(encoding="utf-8")
    page.write_text(html.replace("<main>", '<main><img src="beside.png"><script>1</script>'), encoding="utf-8")
    browser.open(page)
    assert any("Content Security Policy" in fault or "beside.png" in fault for fault in browser.faults())


def test_every_part_is_there_under_headings_in_order(browser: Browser, page: Path) -> None:
    browser.open(page)
    headings = browser.value("[...document.querySelectorAll('h1, h2')].map(h => h.textContent)")
    assert headings[0] == "lspd-s: parity report"
    order = ["Where the accuracy went", "Parity", "Why", "Largest drifts", "Drift", "Joints", "Size", "Layers", "Files"]
    assert [h for h in headings if h in order] == order
    assert browser.value("document.querySelector('.banner .word').textContent").startswith("FAIL: 9 of 11")
    rows = "document.querySelectorAll('.ladder tbody tr').length"
    assert browser.value(rows) == 2 + 11, "float, fused, and every artifact"


def test_a_failure_begins_with_its_cause(browser: Browser, page: Path) -> None:
    browser.open(page)
    banner = browser.value("document.querySelector('.banner').textContent")
    assert "Likeliest cause: tflite w8a8: <script>" in banner
    assert "(explains 99.8% of the difference)" in banner
    assert browser.value("document.querySelector('.banner strong').textContent") == "Likeliest cause"
    todo = browser.value("[...document.querySelectorAll('li')].map(each => each.textContent)")
    assert "tflite w8a8: mend its likeliest cause (colour order), then export again." in todo


def test_operators_left_behind_are_folded_by_their_reason(browser: Browser, page: Path) -> None:
    browser.shape(WIDE)
    browser.open(page)
    caption = "[...document.querySelectorAll('caption')].find(c => c.textContent == 'Operators left behind')"
    rows = browser.value(f"[...{caption}.parentElement.tBodies[0].rows].map(r => [...r.cells].map(c => c.innerText))")
    ours = [row for row in rows if row[0] == "tflite w8a8"]
    assert [row[1] for row in ours] == ["litert-xnnpack", "litert-xnnpack", "litert-gpu"]
    assert ours[0][2].strip() == "act_0 and 5 more"
    assert [row[3] for row in ours] == ["left", "left", "doubtful"]
    browser.value("document.querySelectorAll('td details').forEach(d => d.open = true)")
    shown = browser.value(f"{caption}.parentElement.innerText")
    assert "act_1, act_2, act_3, act_4, act_5" in shown
    shares = (
        "[...document.querySelectorAll('caption')].find(c => c.textContent == 'Operators that the fast path takes')"
    )
    widths = browser.value(
        f"[...{shares}.parentElement.tBodies[0].rows].filter(r => r.cells[0].innerText == 'tflite w8a8')"
        ".map(r => r.querySelector('.bar').getBoundingClientRect().width)"
    )
    assert widths[0] / widths[1] == pytest.approx(50 / 57, abs=0.02), "the bars are as long as the shares"


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("opened", [False, True], ids=["closed", "opened"])
def test_no_width_makes_the_page_itself_scroll_sideways(browser: Browser, page: Path, width: int, opened: bool) -> None:
    browser.shape(width)
    browser.open(page)
    if opened:
        browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_a_chart_that_is_too_wide_is_found(browser: Browser, page: Path) -> None:
    browser.shape(NARROW)
    browser.open(page)
    browser.value("document.querySelector('.tiles').style.width = '900px'")
    assert browser.value("document.documentElement.scrollWidth") > NARROW


def test_it_follows_the_readers_colour_scheme(browser: Browser, page: Path) -> None:
    shots: dict[str, NDArray[np.int64]] = {}
    for scheme in ("light", "dark"):
        browser.shape(WIDE, scheme=scheme)
        browser.open(page)
        shots[scheme] = shot = browser.screenshot()
        colour = PALETTES[scheme]["page"]
        assert shot[3, 3].tolist() == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert len(np.unique(shot @ (1 << 16, 1 << 8, 1))) > 100, "text and charts, not a blank page"
    assert np.abs(shots["light"] - shots["dark"]).mean() > 100


def test_paper_is_light_and_shows_what_is_folded_away(browser: Browser, page: Path) -> None:
    browser.shape(WIDE, scheme="dark")
    browser.open(page)
    assert set(browser.value(SEEN)) == {False}
    browser.shape(WIDE, scheme="dark", medium="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert set(browser.value(SEEN)) == {True}
    size = {"paperWidth": A4_IN[0], "paperHeight": A4_IN[1]}
    pdf = base64.b64decode(browser.send("Page.printToPDF", printBackground=True, **size)["data"])
    assert pdf.startswith(b"%PDF-")
    pages = re.findall(rb"/Type\s*/Page\b", pdf)
    assert 2 <= len(pages) <= 20
