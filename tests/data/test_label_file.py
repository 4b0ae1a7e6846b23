from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data_makers import folder, refused

from pyro_ssvae import AttributeLabels, ClassLabels, data
from pyro_ssvae.data import add_labels, label_file_text, training_files
from pyro_ssvae.experiment.config import DataConfig
from pyro_ssvae.experiment.data import prepare_data, row_names, training_rows

PETS, WORN = ClassLabels(3, ["cat", "dog", "owl"]), AttributeLabels(["hat", "scarf"])


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    y, rows = torch.tensor([-1, 2, -1, -1]), torch.tensor([0, 3, 4, 7])
    text = label_file_text([4, 7], PETS)
    assert text == "index,label\n4,\n7,\n"
    assert torch.equal(add_labels(written(tmp_path, text), y, rows, PETS), y)
    filled = written(tmp_path, text.replace("4,", "4,owl").replace("7,", "7, cat "))
    assert add_labels(filled, y, rows, PETS).tolist() == [-1, 2, 2, 0]
    assert y.tolist() == [-1, 2, -1, -1]


def test_attributes_are_filled_in_one_by_one(tmp_path: Path) -> None:
    y = torch.tensor([[-1, 1], [-1, -1]])
    text = label_file_text([0, 1], WORN, ["a.png", "b.png"])
    assert text == "file,hat,scarf\na.png,,\nb.png,,\n"
    path = written(tmp_path, "file,hat,scarf\na.png,0,\nb.png,,1\n")
    assert add_labels(path, y, torch.arange(2), WORN, ["a.png", "b.png"]).tolist() == [[0, 1], [-1, 1]]


def test_what_stands_beside_the_labels_is_left_alone(tmp_path: Path) -> None:
    beside = {"guess": ["cat 0.9", "dog 0.8"], "weight": ["1,5", ""]}
    assert label_file_text([4, 7], PETS, beside=beside) == 'index,label,guess,weight\n4,,cat 0.9,"1,5"\n7,,dog 0.8,\n'
    path = written(tmp_path, "index,guess,label\n1,cat 0.9,dog\n")
    assert add_labels(path, torch.tensor([-1, -1]), torch.tensor([0, 1]), PETS).tolist() == [-1, 1]


def test_rows_in_another_order_are_not_taken_for_the_old_ones(tmp_path: Path) -> None:
    """Most numbers beside the labels are others then; a person may round them, correct one, or leave them out."""
    y, rows = torch.full((3,), -1), torch.arange(3)

    def read(text: str, weight: list[float], key: str = "row") -> list[int]:
        path, names = written(tmp_path, text), {key: ["0", "1", "2"]}
        own = torch.tensor(weight, dtype=torch.float64)
        return add_labels(path, y, rows, PETS, names=names, numbers={"weight": own}).tolist()

    text = "index,label,row,weight\n0,cat,0,1234.5\n1,dog,1,2.5\n2,owl,2,\n"
    assert read(text, [1234.5, 2.5, 3.5]) == [0, 1, 2]
    assert read(text, [1234.56, 9.0, torch.nan]) == [0, 1, 2]
    refused(lambda: read(text, [2.5, 1234.5, 3.5]), "2 of its 3 points", "another order", "--id")
    assert read(text.replace("index,label,row,", "patient,label,line,"), [2.5, 1234.5, 3.5], "patient") == [0, 1, 2]


def test_points_are_found_by_their_names(tmp_path: Path) -> None:
    """Names stay theirs when rows are added to a table; numbers of training points do not."""
    y, rows, people = torch.full((3,), -1), torch.tensor([0, 2, 3]), {"patient": ["p1", "p2", "p3", "p 4"]}

    def read(text: str, names: dict[str, list[str]] = people) -> list[int]:
        return add_labels(written(tmp_path, text), y, rows, PETS, names=names).tolist()

    assert read("index,label,guess,patient\n2,owl,dog 0.9,p1\n0,dog,,p 4\n") == [2, -1, 1]
    assert read("patient,label\np3,cat\np1,owl\n") == [2, 0, -1]
    assert read("index,label\n3,cat\n") == [-1, -1, 0]
    refused(lambda: read("patient,label\np2,cat\n"), "row 2", "'p2'", "not trained on")
    refused(lambda: read("patient,label\np1,cat\np1,dog\n"), "row 3", "once is enough")
    refused(lambda: read("name,label\np1,cat\n"), "'patient,label' is needed")
    for unnamed in ({}, {"row": ["0", "1", "5", "7"]}):  # in a training that was not told of the names
        refused(lambda names=unnamed: read("index,label,guess,patient,row\n2,owl,,p1,0\n", names), "--id patient")
    numbers = {"row": ["0", "1", "5", "7"]}
    assert read("index,label,row\n1,cat,7\n", numbers) == [-1, -1, 0]
    refused(lambda: read("row,label\n5,cat\n", numbers), "'index,label' is needed")  # of which table?
    assert read("index,label,patient\n2,cat,a\n", {"patient": ["a", "a", "b", "c"]}) == [-1, 0, -1]  # no names


def test_labels_of_points_that_are_held_out_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that are added move others into the test: their labels do not make the others useless."""
    y, rows, people = torch.full((2,), -1), torch.tensor([0, 2]), {"patient": ["p1", "p2", "p3"]}

    def read(text: str) -> list[int]:
        path, others = written(tmp_path, text), {"index": {"0", "1", "2"}, "patient": {"p8"}}
        return add_labels(path, y, rows, PETS, names=people, others=others).tolist()

    assert read("patient,label\np1,cat\np2,dog\np8,owl\np3,owl\n") == [0, 2]
    assert "row 3 ('p2'), row 4 ('p8'): held out, so that 2 labels" in capsys.readouterr().err
    assert read("patient,label\np1,cat\np2,\n") == [0, -1]
    assert not capsys.readouterr().err
    assert read("index,label\n0,cat\n1,dog\n") == [0, -1]
    assert "row 3 ('1'): held out, so that 1 label" in capsys.readouterr().err
    refused(lambda: read("patient,label\np1,cat\np9,dog\n"), "row 3", "'p9'", "no point of the data")
    refused(lambda: read("index,label\n0,cat\n3,dog\n"), "row 3", "'3'", "no point of the data")
    refused(lambda: read("patient,label\np2,cat\np8,dog\n"), "row 2", "'p2'", "nor is any other")


@pytest.mark.parametrize(
    ("text", "culprits"),
    [
        ("index,label\n" + "9" * 5000 + ",cat\n", ("row 2", "column 'index'", "a training point's row")),
        ("row,label\n0,cat\n", ("row 1", "'row,label'", "'index,label'")),
        ("index,lable\n0,cat\n", ("row 1", "'index,label'")),
        ("index,label\n0,cow\n", ("row 2", "'cow'", "'owl'")),
        ("index,label\n0,cat\n0,dog\n", ("row 3", "row 2", "once")),
        ("index,label\nx,cat\n", ("row 2", "'x'")),
        ("index,label\n-1,cat\n", ("row 2", "'-1'")),
        ("index,label\n5,cat\n", ("row 2", "'5'", "not trained on")),
        ("index,label\n0,cat,\n", ("row 2", "3 cells")),
    ],
)
def test_wrong_files_are_refused_by_their_row(tmp_path: Path, text: str, culprits: tuple[str, ...]) -> None:
    path = written(tmp_path, text)
    refused(lambda: add_labels(path, torch.tensor([-1, -1]), torch.tensor([0, 1]), PETS), str(path), *culprits)


def test_wrong_files_of_a_folder_are_refused(tmp_path: Path) -> None:
    def add(text: str, y: torch.Tensor) -> None:
        add_labels(written(tmp_path, text), y, torch.arange(1), WORN, ["a.png", "b.png"])

    y = torch.full((1, 2), -1)
    refused(lambda: add("file,hat,scarf\nc.png,1,0\n", y), "row 2", "'c.png'", "no training image")
    refused(lambda: add("file,hat,scarf\nb.png,1,0\n", y), "row 2", "'b.png'", "not trained on")
    refused(lambda: add("file,hat,scarf\na.png,maybe,0\n", y), "row 2", "'hat'", "'maybe'")
    refused(lambda: add_labels(tmp_path / "none.csv", y, torch.arange(1), WORN), "none.csv")


def test_training_rows_are_those_of_the_prepared_data() -> None:
    for source in (DataConfig(labels="50"), DataConfig(labels="50", leave_out="3")):
        dataset, split, _ = prepare_data(source, seed=1)
        rows = training_rows(source, dataset)
        assert torch.equal(dataset.x[rows], split.x)
        assert len(rows.unique()) == len(split.x)
        assert row_names(source) is None


def test_labels_of_a_file_are_learnt_from(tmp_path: Path) -> None:
    source = DataConfig(labels="50")
    dataset, split, validation = prepare_data(source, seed=1)
    hidden = (split.y == -1).nonzero().squeeze(1)[:3]
    rows = training_rows(source, dataset)[hidden].tolist()
    files = []
    for i, row in enumerate(rows):
        files.append(tmp_path / f"{i}.csv")
        files[-1].write_text(f"index,label\n{row},{i + 4}\n")
    more = DataConfig(labels="50", label_file=tuple(map(str, files)))
    _, again, same = prepare_data(more, seed=1)
    assert again.y[hidden].tolist() == [4, 5, 6]
    assert int((again.y != split.y).sum()) == 3
    assert torch.equal(again.x, split.x)
    assert torch.equal(same[1], validation[1])


def test_files_of_a_folder(tmp_path: Path) -> None:
    names = [f"{c}.png" for c in "abcdefghij"]
    lines = [f"{name},{'cat' if i % 2 else ''},{'test' if i in (2, 5) else 'train'}" for i, name in enumerate(names)]
    root = folder(tmp_path / "pets", "\n".join(["file,label,split", *lines, ""]), names)
    files = training_files(root)
    assert files == [name for i, name in enumerate(names) if i not in (2, 5)]
    dataset = data.load(str(root))
    assert [int(x.max()) for x in dataset.x] == [10 * (names.index(name) + 1) for name in files]
