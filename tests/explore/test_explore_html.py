from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_ssvae.explore import html as html
from pyro_ssvae.explore.grids import Grid

HOSTILE = "<script>alert('a')</script>\"${1+1}{{x}}"


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def saved(piece: str) -> tuple[str, bytes]:
    """Name and content of the file that a piece's link saves."""
    match = re.search(r'<a [^>]*href="data:([^;]*);base64,([^"]*)" download="([^"]*)"', piece)
    assert match is not None
    return match[3], base64.b64decode(match[2])


def test_small_images_show_their_pixels_and_large_ones_stay_as_they_are() -> None:
    x = torch.rand(1, 8, 8)
    shown = pixels(html.png(x, 80))
    assert shown.shape == (80, 80)
    assert np.array_equal(shown[5::10, 5::10], (255 * x[0]).round().byte().numpy())
    assert np.array_equal(shown, shown[::10, ::10].repeat(10, 0).repeat(10, 1))
    x = torch.rand(3, 64, 48)
    assert np.array_equal(pixels(html.png(x)), (255 * x).round().byte().permute(1, 2, 0).numpy())


def test_channels_and_values_of_any_kind() -> None:
    two = torch.stack([torch.zeros(40, 40), torch.ones(40, 40)])
    assert np.unique(pixels(html.png(two))).tolist() == [128]  # their mean
    wide = torch.linspace(-3, 5, 40).expand(1, 40, 40)
    assert pixels(html.png(wide))[0, [0, -1]].tolist() == [0, 255]


def test_a_mosaic_has_white_lines_between() -> None:
    grid = torch.zeros(2, 3, 1, 40, 40)
    grid[1, 2] = 0.4
    shown = pixels(html.png(grid, gap=2))
    assert shown.shape == (82, 124)
    assert (shown[40:42] == 255).all()
    assert (shown[:40, 40:42] == 255).all()
    assert (shown[42:, 84:] == 102).all()
    assert (shown[:40, :40] == 0).all()


def test_a_picture_saves_what_it_shows() -> None:
    x = torch.rand(1, 8, 8)
    piece = html.picture(x, "test point 3", "run-3")
    name, content = saved(piece)
    assert name == "run-3.png"
    assert f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}"' in piece
    assert np.array_equal(pixels(content)[::25, ::25], (255 * x[0]).round().byte().numpy())
    name, content = saved(html.picture(torch.rand(5), "a vector", "run-4"))
    assert name == "run-4.svg"
    assert content.startswith(b"<svg xmlns=")
    assert b"currentColor" not in content


def test_a_line_goes_through_its_values() -> None:
    drawn = html.svg(torch.tensor([0.0, 1.0, 0.5]), torch.tensor([1.0, 3.0, 2.0]), 102, 108)
    lines = re.findall(r'points="([^"]*)"', drawn)
    assert lines[0] == "2.0,70.7 51.0,4.0 100.0,37.3"  # the one behind, first
    assert lines[1] == "2.0,104.0 51.0,70.7 100.0,87.3"
    assert html.svg(torch.rand(3, 20)).count("<path") == 2  # between three channels


@pytest.mark.parametrize("edited", [False, True])
def test_bars_are_as_long_as_their_probabilities(edited: bool) -> None:
    shown = {"this point": [0.25, 0.75]}
    if edited:
        shown |= {"its reconstruction": [0.5, 0.5], "edited": [0.9, 0.1]}
    piece = html.bars(["cat", "dog"], shown, [1])
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", piece)]
    assert widths == ([25, 50, 90, 75, 50, 10] if edited else [25, 75])
    assert piece.count("★ dog") == 1
    assert ("its reconstruction" in piece) == edited
    assert ("0.25 → 0.50 → 0.90" in piece) == edited
    for kind in ("zeroth", "second"):
        assert (f'class="bar {kind}"' in piece) == edited


def test_pictures_are_on_one_scale() -> None:
    x = torch.tensor([[[-1.0, 0.0], [0.5, 3.0]]])
    shown = pixels(html.png(x, least=2))
    assert shown.tolist() == [[0, 0], [128, 255]]


def test_a_line_has_no_gaps() -> None:
    assert "nan" not in html.svg(torch.tensor([0.0, torch.nan, 1.0]), torch.tensor([torch.nan, 0.0, 0.0]))


def test_cells_that_differ_are_bold() -> None:
    piece = html.cells(["age", "job"], ["31", "cook"], ["35", "cook"], ("before", "edited"))
    assert '<tr><th title="age">age</th><td>31</td><td><b>35</b></td></tr>' in piece
    assert '<tr><th title="job">job</th><td>cook</td><td>cook</td></tr>' in piece
    narrow = html.cells(["a_long_name_of_a_column"], ["1"], ["2"], ("before", "edited"), both=False)
    assert '<tr><th title="a_long_name_of_a_column">a_long_na…lumn</th><td><b>2</b></td></tr>' in narrow
    assert "before" not in narrow
    assert "<th>before</th><th>edited</th>" in piece


def test_of_many_labels_the_most_probable() -> None:
    names = [f"class {i}" for i in range(40)]
    piece = html.bars(names, {"this point": [i / 780 for i in range(40)]}, [])
    assert re.findall(r">(class \d+)<", piece) == names[22:]
    assert "the 18 most probable" in piece


def test_intervals_are_where_the_posterior_is() -> None:
    piece = html.intervals(["z[0]", "z[1]"], [0.0, 2.0], [1.0, 0.5])  # from -2 to 3, over 300 units from 150 on
    assert re.findall(r'cx="([\d.]+)"', piece) == ["270.0", "390.0"]
    assert 'd="M150.0 13.0H390.0"' in piece
    assert 'd="M330.0 31.0H450.0"' in piece
    many = html.intervals([f"z[{j}]" for j in range(30)], [0.0] * 30, [1.0] * 10 + [0.1] * 20)
    assert "the 16 of 30 dimensions that vary least" in many
    assert "z[9]" not in many


def test_a_grid_has_its_words_and_is_saved_whole() -> None:
    images = torch.rand(2, 3, 1, 8, 8)
    piece = html.table(Grid(images, ["this point", "style 1"], ["a", "b", "c"]), "run-grid")
    assert piece.count("<img") == 6
    for word in ("this point", "style 1", "<th>a</th>", "<th>c</th>"):
        assert word in piece
    name, content = saved(piece.replace('class="quiet" ', ""))
    assert name == "run-grid.png"
    assert pixels(content).shape == ((2 * 9 - 1) * 8, (3 * 9 - 1) * 8)
    assert html.table(Grid(torch.rand(2, 3, 7), ["a", "b"], ["c", "d", "e"]), "g").count("<svg") == 6


def test_words_cannot_become_markup() -> None:
    x = torch.rand(1, 8, 8)
    for piece in (
        html.heading(HOSTILE, HOSTILE),
        html.quiet(HOSTILE),
        html.picture(x, HOSTILE, HOSTILE),
        html.small(x, HOSTILE),
        html.bars([HOSTILE, "b"], {HOSTILE: [0.5, 0.5]}, []),
        html.cells([HOSTILE], [HOSTILE], [HOSTILE], (HOSTILE, HOSTILE)),
        html.intervals([HOSTILE], [0.0], [1.0]),
        html.table(Grid(x.expand(1, 1, 1, 8, 8), [HOSTILE], [HOSTILE]), HOSTILE),
    ):
        assert "<script" not in piece
        assert "alert('a')" not in piece
