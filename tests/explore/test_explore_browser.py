"""The page in a real browser: Debian's chromium without a window, which reaches nothing but 127.0.0.1."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from data_makers import npz
from PIL import Image
from toy_blocks import NAMES, world

from pyro_ssvae import create_model, data, fit, load, save
from pyro_ssvae.experiment.config import DataConfig, ExperimentConfig, ModelConfig, model_options
from pyro_ssvae.experiment.data import run_data

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("THE PAGE IS NOT TESTED: chromium, chromium-driver are not installed", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="THE PAGE IS NOT TESTED: selenium is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="THE PAGE IS NOT TESTED: gradio is not installed")

SLIDE = """
const input = document.querySelectorAll('input[type=range]')[arguments[0]];
const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
for (const value of arguments[1]) { set.call(input, value); input.dispatchEvent(new Event('input', {bubbles: true})); }
"""


class Visitor:
    """One browser window on one page."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        browser.switch_to.new_window("window")
        self.window = browser.current_window_handle
        browser.get(url)
        self.wait(lambda: len(self.pictures("fixed")) == 2, "the page to show a point")

    def look(self) -> Any:
        self.browser.switch_to.window(self.window)
        return self.browser

    def wait(self, what: Callable[[], Any], words: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if what():
                return
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for {words}")

    def pictures(self, part: str) -> list[str]:
        script = "return [...document.querySelectorAll(`#${arguments[0]} img`)].map(image => image.src)"
        found: list[str] = self.look().execute_script(script, part)
        return found

    def changed(self, part: str, act: Callable[[], Any]) -> list[str]:
        """The pictures of a part of the page after an action, when they have changed."""
        before = self.pictures(part)
        act()
        self.wait(lambda: self.pictures(part) not in (before, []), f"{part} to change")
        return self.pictures(part)

    def settle(self, part: str) -> None:
        """Wait until a part has not changed for a second: answers to a hand that drags are on their way till then."""
        last: list[Any] = [None, 0.0]

        def still() -> bool:
            now = self.pictures(part)
            if now != last[0]:
                last[:] = [now, time.monotonic()]
            return time.monotonic() - last[1] > 1

        self.wait(still, f"{part} to settle")

    def slide(self, i: int, *values: float) -> None:
        self.look().execute_script(SLIDE, i, values)

    def sliders(self) -> list[float]:
        script = "return [...document.querySelectorAll('input[type=range]')].map(input => Number(input.value))"
        found: list[float] = self.look().execute_script(script)
        return found

    def press(self, words: str, which: int = 0) -> None:
        buttons = "[...document.querySelectorAll('button')].filter(b => b.textContent.trim() == arguments[0])"
        self.look().execute_script(f"{buttons}[arguments[1]].click()", words, which)

    def type(self, field: str, words: str) -> None:
        entry = self.look().find_element("css selector", f"#{field} input")
        entry.clear()
        entry.send_keys(words)

    def words(self) -> str:
        text: str = self.look().execute_script("return document.body.innerText")
        return text


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """AugVAE on digits and a ReVAE on blocks, both trained for a moment, in folders as train leaves them."""
    torch.set_num_threads(1)
    folder, before = tmp_path_factory.mktemp("runs"), os.getcwd()
    os.chdir(folder)
    try:
        x, y, _ = world(200)
        x = (255 * x).byte().numpy()
        npz(Path("blocks.npz"), x=x[:160], y=y[:160].numpy(), x_test=x[160:], y_test=y[160:].numpy(), names=list(NAMES))
        for model, source, out in (("augmented", "digits", "digits"), ("revae", "blocks.npz", "blocks")):
            dataset = data.load(source)
            vae = create_model(model, input_shape=dataset.input_shape, labels=dataset.labels, latent_dim=9)
            fit(vae, dataset.x, dataset.y, epochs=3, progress=False)
            network = ModelConfig(model, model_options(model))
            settings = ExperimentConfig(source=DataConfig(data=source), network=network).recorded()
            save(vae, out, settings=settings, evaluation={})
        yield {"digits": folder / "digits", "blocks": folder / "blocks"}
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-proxy-server",
        "--window-size=1400,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def served(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Serve a run's page from this process, which may look up no host but this one, and say where."""
    from pyro_ssvae.explore.page import make_page
    from pyro_ssvae.explore.server import listen, make_app

    servers, looked_up, look_up = [], set(), socket.getaddrinfo

    def noted(host: Any, *more: Any, **options: Any) -> Any:
        looked_up.add(host)
        return look_up(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noted)

    def serve(name: str) -> str:
        model = load(runs[name])
        at = listen(None)
        page = make_page(model, run_data(runs[name], model), name)
        config = uvicorn.Config(make_app(page), log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{at.getsockname()[1]}/"

    yield serve
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)
    assert looked_up <= {"localhost", "127.0.0.1", "::1"}


def nothing_from_outside(browser: Any) -> None:
    """Assert that no page asked for anything beyond 127.0.0.1, and that none has complained."""
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("http://127.0.0.1:") for url in urls)
    assert [url for url in urls if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_sliders_of_a_revae(served: Callable[[str], str], browser: Any) -> None:
    visitor = Visitor(browser, served("blocks"))
    start = visitor.sliders()
    assert len(start) == 3
    visitor.wait(lambda: visitor.pictures("edited") == visitor.pictures("fixed")[1:], "the reconstruction, unedited")
    as_encoded = visitor.pictures("edited")

    high = visitor.changed("edited", lambda: visitor.slide(0, 1e6))  # the browser stops at the slider's end
    assert visitor.changed("edited", lambda: visitor.slide(0, -1e6)) != high
    assert visitor.changed("edited", lambda: visitor.slide(0, start[0])) == as_encoded
    # As fast as a hand drags it: the last value is what is shown in the end.
    visitor.changed("edited", lambda: visitor.slide(0, *[start[0] + 0.01 * i for i in range(30)], 1e6))
    visitor.wait(lambda: visitor.pictures("edited") == high, "the last of many values")
    visitor.settle("edited")

    visitor.changed("edited", lambda: visitor.press("draw 1", 1))
    visitor.wait(lambda: visitor.sliders()[1] != start[1], "the slider to follow the draw")
    visitor.changed("edited", lambda: visitor.press("swap", 2))
    visitor.press("back to the point as encoded")
    visitor.wait(lambda: visitor.pictures("edited") == as_encoded, "the point as encoded")
    assert visitor.sliders() == pytest.approx(start)
    nothing_from_outside(browser)


def test_points_and_styles_of_digits(served: Callable[[str], str], browser: Any, tmp_path: Path) -> None:
    visitor = Visitor(browser, served("digits"))
    assert len(visitor.pictures("grid")) == 50
    first = visitor.pictures("fixed")
    visitor.changed("fixed", lambda: visitor.type("point", "123"))
    visitor.wait(lambda: "test point 123" in visitor.words(), "the point that was typed")
    visitor.changed("fixed", lambda: visitor.press("▶"))
    visitor.wait(lambda: "test point 124" in visitor.words(), "the next point")
    styles = visitor.changed("grid", lambda: visitor.press("other styles"))
    assert len(styles) == 50
    visitor.changed("edited", lambda: visitor.type("second", "7"))
    visitor.changed("fixed", lambda: visitor.type("point", "0"))
    visitor.wait(lambda: visitor.pictures("fixed") == first, "the first point again")

    downloads = {"behavior": "allow", "downloadPath": str(tmp_path)}
    visitor.look().execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    visitor.look().find_element("css selector", "#fixed a").click()
    visitor.wait((tmp_path / "digits-0.png").exists, "the picture to be saved")
    with Image.open(tmp_path / "digits-0.png") as image:
        assert image.size == (200, 200)

    visitor.type("point", "99999")
    visitor.wait(
        lambda: "99999 is no test point; a whole number from 0 to" in visitor.words(), "words on what is wrong"
    )
    assert "Traceback" not in visitor.words()
    visitor.changed("fixed", lambda: visitor.type("point", "5"))
    nothing_from_outside(browser)


def test_two_visitors(served: Callable[[str], str], browser: Any) -> None:
    url = served("blocks")
    first = Visitor(browser, url)
    first.changed("fixed", lambda: first.type("point", "9"))
    edited = first.changed("edited", lambda: first.slide(0, 1e6))
    sliders = first.sliders()
    second = Visitor(browser, url)
    assert second.pictures("fixed") != first.pictures("fixed")  # it begins at point 0
    second.changed("edited", lambda: second.press("draw 1", 1))
    second.changed("fixed", lambda: second.press("▶"))
    assert first.pictures("edited") == edited
    assert first.sliders() == sliders
    there = first.changed("edited", lambda: first.slide(1, 1e6))  # from where the first visitor left it
    first.changed("edited", lambda: first.slide(1, sliders[1]))
    first.wait(lambda: first.pictures("edited") == edited, "the first visitor's own picture")
    assert there != edited


def test_the_command_serves_until_ctrl_c(runs: dict[str, Path], browser: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pyro_ssvae", "explore", str(runs["blocks"]), "--no-browser", "--port", str(port)]
    root = Path(__file__).parents[2]
    server = subprocess.Popen(
        command, cwd=runs["blocks"].parent, env={**os.environ, "PYTHONPATH": str(root)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    assert server.stdout.readline() == f"page: http://127.0.0.1:{port}/\n"
    Visitor(browser, f"http://127.0.0.1:{port}/")
    server.send_signal(signal.SIGINT)
    said, complained = server.communicate(timeout=120)  # on a busy machine the interpreter takes its time to end
    assert (server.returncode, complained) == (0, "")
    assert said.endswith("closed\n")
