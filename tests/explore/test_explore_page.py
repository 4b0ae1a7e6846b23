"""The page's handlers and how it is served, without a browser; with one, test_explore_browser.py."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from data_makers import refused
from test_intervene_commands import LABELS, a_run
from toy_blocks import NAMES

from pyro_ssvae import AttributeLabels, ClassLabels, load
from pyro_ssvae.cli.explore import Explore, run
from pyro_ssvae.cli.main import main
from pyro_ssvae.experiment.data import run_data
from pyro_ssvae.labels import Labels

gr = pytest.importorskip("gradio", reason='the page needs gradio: pip install "pyro_ssvae[explore]"')
from starlette.testclient import TestClient  # noqa: E402

from pyro_ssvae.explore import handlers, server  # noqa: E402
from pyro_ssvae.explore import page as explore_page  # noqa: E402

CLASSES = ClassLabels(3, ["cat", "dog", "owl"])


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def a_page(name: str = "revae", labels: Labels = LABELS, shape: tuple[int, ...] = (1, 4, 12)) -> Any:
    folder = a_run(name, labels, shape)
    model = load(folder)
    return handlers.Handlers(model, run_data(folder, model), "run")


def image(piece: str) -> str:
    found = re.search(r'<img src="([^"]*)"|<polyline points="([^"]*)"', piece)
    assert found is not None, piece
    return found[1] or found[2]


@pytest.mark.parametrize("labels", [LABELS, CLASSES])
@pytest.mark.parametrize("name", ["augmented", "revae", "vae", "classifier", "m1", "m2", "m1+m2", "mvae", "diva"])
def test_every_model_has_a_page(name: str, labels: Labels) -> None:
    page = a_page(name, labels)
    visit, truth, fixed, posterior, edited, bars, grid, *values = page.pick(3, 4)
    assert "test point 3" in fixed
    assert ("reconstruction" in fixed) == (name != "classifier")
    assert ("q(z | x)" in posterior) == (name != "classifier")
    assert ("q(y | x)" in bars) == (name != "vae")
    assert "label: " in truth
    assert len(values) == len(page.sliders) == (3 if labels is LABELS and name in ("augmented", "revae", "m2") else 0)
    assert bool(grid) == (name != "classifier" and not page.sliders)
    assert bool(edited) == page.pairs
    assert ("<img" in page.show_second(4)) == page.pairs
    if page.gridded:
        assert page.restyle(visit)[1] != grid


@pytest.mark.parametrize("shape", [(7,), (2, 9)])
@pytest.mark.parametrize("labels", [LABELS, CLASSES])
def test_vectors_and_series_are_drawn_as_lines(labels: Labels, shape: tuple[int, ...]) -> None:
    page = a_page("revae", labels, shape)
    *_, fixed, _, edited, _, grid = page.pick(3, 4)[:7]
    assert "<img" not in fixed + edited + grid
    assert fixed.count("<polyline") == 3  # the point, and its reconstruction on it
    assert edited.count("<polyline") == 2  # on the point too, at one scale
    assert edited.count('stroke="#A0A0A0" stroke-width="2"') == 1
    assert "no images" in str(explore_page.build(page).get_config_file())


def test_what_is_edited_is_compared_with_the_reconstruction() -> None:
    page = a_page("revae", LABELS, (7,))
    visit, _, _, _, edited, bars, _, *values = page.pick(3, 4)
    lines = re.findall(r'<polyline points="([^"]*)"', edited)
    assert lines[0] == lines[1]  # nothing is edited yet: what lies behind is the reconstruction, not the point
    assert visit.recon_probs == pytest.approx(page.model.predict_proba(visit.recon[None])[0].tolist())
    assert "its reconstruction" in bars
    moved, _ = page.slide(visit, values[0], page.sliders[1].high, values[2])
    behind, line = re.findall(r'<polyline points="([^"]*)"', moved)
    assert behind != line


def test_a_table_is_shown_by_its_cells(tmp_path: Path) -> None:
    rows = "\n".join(f"{i % 7},{'red' if i % 2 else 'blue'},{'ab'[i % 2]}" for i in range(30))
    Path("t.csv").write_text(f"size,colour,kind\n{rows}\n,red,a\n")
    assert main(["train", "--data", "t.csv", "--target", "kind", "--epochs", "1", "--no-baseline", "--no-figures",
                 "--quiet", "--model", "m2", "--out", "run"]) == 0  # fmt: skip
    model = load("run")
    page = handlers.Handlers(model, run_data(Path("run"), model), "run")
    _, _, fixed, *_ = page.pick(0, 1)
    assert ">size</th>" in fixed
    assert ">colour</th>" in fixed
    assert re.search(r"<td>(red|blue)</td>", fixed)
    assert not (Path("run") / "figures").exists()
    assert "rows of a table" in str(explore_page.build(page).get_config_file())


def test_a_slider_redraws_and_goes_back() -> None:
    page = a_page()
    visit, _, fixed, _, edited, bars, _, *values = page.pick(3, 4)
    reconstruction = re.findall(r'<img src="([^"]*)"', fixed)[1]
    assert image(edited) == reconstruction
    axis = page.sliders[1]
    moved, moved_bars = page.slide(visit, values[0], axis.high, values[2])
    assert image(moved) != reconstruction
    assert moved_bars != bars
    assert image(page.slide(visit, *values)[0]) == reconstruction
    drawn, edited, _, *after = page.draw(1, 1, visit, *values)
    assert after[0] == values[0]
    assert after[1] != values[1]
    assert image(edited) == image(page.slide(drawn, *after)[0]) != reconstruction
    again, second, *_ = page.draw(1, 1, drawn, *after)
    assert image(second) != image(edited)  # another draw
    taken, swapped, *_ = page.take(2, again, 7, *after)
    assert image(swapped) != image(second)
    assert image(page.reset(taken)[1]) == reconstruction


def test_a_value_drawn_stays_when_another_slider_moves() -> None:
    page = a_page()
    visit, *_, a, b, c = page.pick(3, 4)
    drawn, _, _, *after = page.draw(0, 1, visit, a, b, c)
    assert torch.equal(page.moved(drawn, (*after[:2], page.sliders[2].high))[:2], drawn.code[:2])


def test_what_is_not_edited_is_inferred_as_in_an_intervention(monkeypatch: pytest.MonkeyPatch) -> None:
    page = a_page()
    asked: list[list[str]] = []
    own = page.model.encode_for
    monkeypatch.setattr(page.model, "encode_for", lambda x, names: (asked.append([*names]), own(x, asked[-1]))[1])
    visit, *_, a, b, c = page.pick(3, 4)
    taken, _, _, *after = page.take(1, visit, 7, a, b, c)
    page.slide(taken, page.sliders[0].high, *after[1:])
    page.reset(taken)
    names = [axis.name for axis in page.sliders]
    assert asked == [names[1:2], names[:2]]


def test_visitors_do_not_disturb_each_other() -> None:
    """All that a visitor changes is in what the handlers return."""
    page = a_page()
    before = dict(vars(page))
    weights = {name: value.clone() for name, value in page.model.state_dict().items()}
    alone = [page.pick(3, 4), page.pick(5, 4)]
    first, second = (one[0] for one in alone)
    values = [list(one[7:]) for one in alone]
    expected = [page.slide(first, *values[0]), page.slide(second, *values[1])]
    page.draw(0, 1, first, *values[0])
    page.take(1, second, 2, *values[1])
    page.reset(second)
    assert [page.slide(first, *values[0]), page.slide(second, *values[1])] == expected
    assert page.pick(3, 4)[1:] == alone[0][1:]
    assert all(vars(page)[key] is value for key, value in before.items())
    assert all(torch.equal(value, weights[name]) for name, value in page.model.state_dict().items())
    with pytest.raises(AttributeError):
        first.index = 5


def test_what_is_wrong_is_said_in_words(caplog: pytest.LogCaptureFixture) -> None:
    page = a_page()
    for wrong in (10, -1, 1.5, "1", True, [1]):
        refused(lambda wrong=wrong: page.pick(wrong, 1), "no test point", "0 to 9")
    refused(lambda: page.slide(None, 0, 0, 0), "idle", "load it again")
    refused(lambda: page.take(0, page.pick(0, 1)[0], 99, *page.pick(0, 1)[7:]), "99", "0 to 9")
    with pytest.raises(gr.Error, match="no test point") as caught:
        handlers.in_words(page.pick)(10, 1)
    assert not caught.value.print_exception

    def broken() -> None:
        raise RuntimeError("/a/secret/path")

    with pytest.raises(gr.Error, match="RuntimeError") as caught:
        handlers.in_words(broken)()
    assert "secret" not in str(caught.value)
    assert "/a/secret/path" in caplog.text
    skipped = page.pick(None, 1)  # an empty field, while a person types
    assert len(skipped) == len(page.pick(0, 1))


def test_points_before_and_after() -> None:
    page = a_page()
    assert [page.step(1, 9), page.step(-1, 0), page.step(1, None)] == [0, 9, 0]
    assert {page.step(0, 3) for _ in range(200)} == set(range(10))


def test_nothing_but_the_page_is_served(tmp_path: Path) -> None:
    page = a_page()
    (tmp_path / "beside.txt").write_text("secret")
    with TestClient(server.make_app(explore_page.build(page)), base_url="http://127.0.0.1") as client:
        shown = client.get("/")
        assert shown.status_code == 200
        assert "default-src 'self'" in shown.headers["content-security-policy"]
        assert client.get("/", headers={"host": "localhost:7860"}).status_code == 200
        assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 400
        for path in (tmp_path / "beside.txt", Path("beside.txt"), Path("run/config.json"), Path("/etc/hostname")):
            for way in ("/gradio_api/file=", "/gradio_api/file/", "/gradio_api%2Ffile=", "/file=", "/static/../"):
                answer = client.get(f"{way}{path}")
                assert answer.status_code in (403, 404), (way, path)
                assert "secret" not in answer.text
        sent = client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 10)})
        assert sent.status_code == 404
        assert client.get("/gradio_api/proxy=http://example.com/a").status_code == 404
        config = client.get("/config").json()
    assert config["show_error"] is False
    assert config["analytics_enabled"] is False
    text = str(config)
    assert str(tmp_path) not in text
    assert "googleapis" not in text


def test_a_port_that_is_taken_is_refused() -> None:
    with server.listen(None) as first:
        host, port = first.getsockname()
        assert host == "127.0.0.1"
        refused(lambda: server.listen(port), f"--port {port}", "cannot be listened on", "another port")
        with server.listen(None) as second:
            assert second.getsockname()[1] > port


def test_wrong_words_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_run()
    refused(lambda: run(Explore(folder, index=10)), "--index: 10", "0 to 9")
    refused(lambda: run(Explore(folder, index=-1)), "--index: -1", "0 to 9")
    refused(lambda: run(Explore(folder, port=0)), "--port: 0", "1 to 65535")
    refused(lambda: run(Explore(folder, port=65536)), "--port: 65536")
    assert main(["explore", "none"]) == 2
    assert capsys.readouterr().err == (
        "pyro-ssvae: none/config.json: no such file; the folder of a saved model or a run is needed\n"
    )
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("offline", "page", "server", "handlers"):
        monkeypatch.delitem(sys.modules, f"pyro_ssvae.explore.{name}")
        monkeypatch.delattr(f"pyro_ssvae.explore.{name}")
    assert main(["explore", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert 'pip install "pyro_ssvae[explore]"' in said


def test_the_command_serves_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, served = a_run(), []

    def note(page: Any, at: socket.socket, *, browser: bool) -> None:
        served.append((page.title, at.getsockname()[0], browser))
        at.close()

    monkeypatch.setattr(explore_page, "serve", note)
    assert main(["explore", str(folder), "--no-browser", "--index", "3"]) == 0
    assert served == [("run", "127.0.0.1", False)]


def test_sliders_and_their_buttons_say_an_attributes_own_words() -> None:
    page = a_page(labels=AttributeLabels(NAMES, [("none", "straw"), ("1", "2"), ("0", "1")]))
    with gr.Blocks():
        slider, buttons = explore_page.lay_out_slider(page.sliders[0], "draw")
    assert slider.label.startswith(f"{NAMES[0]}: none at ")
    assert [button.value for button in buttons] == ["draw none", "draw straw", "swap"]
