"""One reader through ten cases in a real browser (Debian's Chromium), with a service that is killed on the way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.reading_room.making import CODES, make_study
from triage.reading_room.prepared import Study
from triage.reading_room.standing import Kind, last_readings
from triage.reading_room.store import read_events
from triage.reading_room.study import Modality

GIVEN = os.environ.get("TRIAGE_TEST_CHROMIUM")
CHROMIUM = GIVEN or shutil.which("chromium")
HAS_PLAYWRIGHT = find_spec("playwright") is not None
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(  # where CI names the browser, what is missing fails instead
        not GIVEN and not (CHROMIUM and HAS_PLAYWRIGHT), reason="needs playwright (dev extra) and Debian's chromium"
    ),
]
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
SERVE = """
import argparse, sys
from triage.reading_room.commands import add_commands
parser = argparse.ArgumentParser()
add_commands(parser.add_subparsers())
chosen = parser.parse_args()
sys.exit(chosen.run(chosen))
"""
CASES = 10


@dataclass
class Service:
    """`triage reader-study serve` as a process of its own."""

    study: Study
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["serve", str(self.study.folder), "--port", str(self.port)]
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, *words], cwd=Path(__file__).parents[2])
        for _ in range(300):
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, "the service ended"
            time.sleep(0.1)
        raise AssertionError("the service did not come up")

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = Service(make_study(tmp_path / "study", CASES).study, free.getsockname()[1])
    found.start()
    yield found
    found.kill(signal.SIGTERM)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def signed_in(browser: Any, service: Service, reader: str, **options: Any) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}, **options).new_page()
    page.set_default_timeout(20_000)
    page.goto(service.url)
    page.fill("#code", CODES[reader])
    page.press("#code", "Enter")
    page.wait_for_selector("text=Session 1 of 2")
    return page


def type_reading(page: Any, key: str, scores: tuple[int, int, int]) -> None:
    page.keyboard.press(key)
    for score in scores:
        page.keyboard.type(str(score))
        page.keyboard.press("Enter")
    page.wait_for_selector("#next")
    settle(page)


def settle(page: Any) -> None:
    """Until the image is there and the keys do something: no reader is faster, this test is."""
    page.wait_for_selector(".stage.live")
    page.wait_for_load_state("load")


def image_is_drawn(page: Any) -> bool:
    drawn: bool = page.evaluate("() => { const i = document.querySelector('.radiograph'); return i.naturalWidth > 0 }")
    return drawn


@pytest.mark.timeout(240)
def test_a_reader_goes_through_ten_cases_with_the_keyboard_alone(service: Service, chromium: Any) -> None:
    page = signed_in(chromium, service, "R01")
    faults: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda why: faults.append(str(why)))
    page.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("request", lambda request: asked.append(request.url))
    order = service.study.orders["R01"]
    page.keyboard.press("Enter")
    for number in range(CASES):
        page.wait_for_selector(f".where strong:text-is('{number + 1}')")
        page.wait_for_selector("button:has-text('Record')")
        settle(page)
        assert image_is_drawn(page)
        assert "secret" not in page.content() and "truth" not in page.content()
        assert page.locator(".bar").count() == (3 if order[number].modality is Modality.WITH else 0)
        assert page.locator(".overlay").count() == (order[number].modality is Modality.WITH)
        if number == 4:  # nothing said of this one yet
            service.kill()
            service.start()
            page.reload()
            settle(page)
        type_reading(page, str(number % 3 + 1), (number, 50, 100 - number))
        if number == 6:
            page.keyboard.press("1")
            page.keyboard.type("77")
            page.click("text=Record the change")
            page.wait_for_selector("#score-normal[value='77']")
            settle(page)
        page.keyboard.press("Enter" if number % 2 else "n")
    page.wait_for_selector("text=Session 1 is complete")
    assert not faults
    assert all(url.startswith((f"{service.url}/", "data:")) for url in asked), "something was asked of elsewhere"

    events, _ = read_events(service.study.journal_of("R01"), order)
    said = last_readings(events)
    assert [reading.scores for reading in said.values()] == [
        (77 if number == 6 else number, 50, 100 - number) for number in range(CASES)
    ]
    classes = [("normal", "pneumonia", "covid")[number % 3] for number in range(CASES)]
    assert [reading.response for reading in said.values()] == classes
    assert sum(event.kind is Kind.READ for event in events) == CASES + 1


@pytest.mark.timeout(120)
def test_window_zoom_and_inversion_change_the_picture_and_outlast_the_recording(
    service: Service, chromium: Any
) -> None:
    page = signed_in(chromium, service, "R02")
    page.keyboard.press("Enter")
    settle(page)
    plain = page.locator("#stage").screenshot()

    def slope() -> str:
        return str(page.get_attribute("feFuncR", "slope"))

    page.keyboard.press("i")
    assert slope() == "-1" and page.locator("#stage").screenshot() != plain
    page.keyboard.press("i")
    page.mouse.move(400, 400)
    page.mouse.down()
    page.mouse.move(200, 420)
    page.mouse.up()
    assert float(slope()) == pytest.approx(2) and "Window 50 · level 55" in page.inner_text("#window")
    page.mouse.wheel(0, -100)
    page.mouse.wheel(0, -100)
    page.wait_for_function("document.getElementById('window').textContent.endsWith('132 %')")
    type_reading(page, "1", (90, 5, 5))
    settle(page)
    assert "Window 50 · level 55 · 132 %" in page.inner_text("#window")
    page.keyboard.press("n")
    page.wait_for_selector(".where strong:text-is('2')")
    settle(page)
    assert "Window 100 · level 50 · 100 %" in page.inner_text("#window")


@pytest.mark.timeout(120)
def test_without_script_a_case_can_be_read(service: Service, chromium: Any) -> None:
    page = signed_in(chromium, service, "R02", java_script_enabled=False)
    page.click("text=Open the first case")
    page.click("label[for=class-pneumonia]")
    for name, score in (("normal", "10"), ("pneumonia", "80"), ("covid", "30")):
        page.fill(f"#score-{name}", score)
    assert not page.is_visible(".slider") and not page.is_visible("text=Invert")
    page.click("button:has-text('Record')")
    page.wait_for_selector("text=Final with the next case")
    page.click("#next")
    page.wait_for_selector(".where strong:text-is('2')")
