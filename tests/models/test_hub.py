"""Models to the hub and back, by a stand-in of the hub's client that keeps repositories in folders."""

from __future__ import annotations

import inspect
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from data_makers import refused
from test_saving import made, same
from tiny import augmented, points

from pyro_ssvae import load, push_to_hub, save
from pyro_ssvae.models import hub
from pyro_ssvae.models.publish import without_paths


class Hub:
    """Repositories as folders; every call must be one that the real client takes."""

    def __init__(self, place: Path) -> None:
        self.place, self.made, self.messages = place, {}, []  # type: ignore[var-annotated]

    def create_repo(self, *rest: Any, **named: Any) -> str:
        call = inspect.signature(self.api.create_repo).bind(None, *rest, **named).arguments
        self.made[call["repo_id"]] = call
        (self.place / call["repo_id"]).mkdir(parents=True, exist_ok=call["exist_ok"])
        return f"https://hub.test/{call['repo_id']}"

    def upload_folder(self, *rest: Any, **named: Any) -> None:
        call = inspect.signature(self.api.upload_folder).bind(None, *rest, **named).arguments
        shutil.copytree(call["folder_path"], self.place / call["repo_id"], dirs_exist_ok=True)
        self.messages.append(call["commit_message"])

    def snapshot_download(self, *rest: Any, **named: Any) -> str:
        call = inspect.signature(self.download).bind(*rest, **named).arguments
        folder = self.place / call["repo_id"]
        if not folder.is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError(f"404: no {call['repo_id']}")
        fetched = self.place / "cache" / str(call.get("revision"))
        fetched.mkdir(parents=True, exist_ok=True)
        for pattern in call["allow_patterns"]:
            for file in folder.glob(pattern):
                shutil.copyfile(file, fetched / file.name)
        return str(fetched)

    api, download = huggingface_hub.HfApi, staticmethod(huggingface_hub.snapshot_download)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


METRICS = {
    "data": {"name": "/home/ada/own.csv", "train": 90, "labelled": 12, "test": 10},
    "test": {"accuracy": 0.9514, "elbo": -31.2, "confusion": [[1, 0], [0, 1]]},
    "baseline": {"accuracy": 0.81},
}


def test_a_run_goes_there_and_comes_back(tmp_path: Path, client: Hub) -> None:
    model, run = made("probabilities"), tmp_path / "run"
    source = {"data": "/home/ada/own.csv", "label_file": ["/home/ada/more.csv"], "labels": "12"}
    save(model, run, command="pyro-ssvae train --data /home/ada/own.csv", settings={"source": source, "baseline": True})
    (run / "metrics.json").write_text(json.dumps(METRICS))
    (run / "history.csv").write_text("epoch,loss\n")
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "last.safetensors").write_bytes(b"large")
    (run / "figures").mkdir()
    (run / "figures" / "a.png").write_bytes(b"png")
    address = push_to_hub(run, "ada/digits", license="apache-2.0", message="first")
    assert address == "https://hub.test/ada/digits"
    assert client.messages == ["first"]
    assert client.made["ada/digits"]["private"] is False
    there = client.place / "ada" / "digits"
    files = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    expected = {"README.md", "config.json", "model.safetensors", "metrics.json", "history.csv", "figures/a.png"}
    assert files == expected
    assert "/home/ada" not in (there / "config.json").read_text()
    assert json.loads((there / "config.json").read_text())["settings"]["source"]["data"] == "own.csv"
    same(model, load("hf://ada/digits"), points(5))
    same(model, load("hf://ada/digits@v1"), points(5))
    assert (client.place / "cache" / "v1").is_dir()


def test_the_card_says_what_the_model_is(tmp_path: Path, client: Hub) -> None:
    save(made("probabilities"), tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(METRICS))
    push_to_hub(tmp_path / "run", "ada/digits", license="mit")
    card = (client.place / "ada" / "digits" / "README.md").read_text()
    head, words = card.split("---\n")[1:]
    assert "library_name: pyro_ssvae" in head
    assert "license: mit" in head
    assert "pipeline_tag: tabular-classification" in head
    assert huggingface_hub.ModelCard(card).data.library_name == "pyro_ssvae", "the client reads its top"
    assert "| accuracy | 0.9514 | 0.81 |" in words
    assert "| elbo | -31.2 |  |" in words
    assert "confusion" not in words
    assert "90 points, 12 with a label" in words
    assert "Trained on own.csv" in words
    assert "**Classes**: 0, 1, 2." in words
    assert 'ps.load("hf://ada/digits")' in words
    assert "/home/ada" not in words


def test_a_model_in_memory_goes_there_too(client: Hub) -> None:
    model = made("m1+m2")
    push_to_hub(model, "ada/m1m2", private=True)
    assert client.made["ada/m1m2"]["private"] is True
    same(model, load("hf://ada/m1m2"), points(5))
    assert torch.equal(model.state_dict()["loc.weight"], load("hf://ada/m1m2").state_dict()["loc.weight"])


def test_paths_alone_are_left_out() -> None:
    assert without_paths({"model": 1, "command": "x"}) == {"model": 1}
    config = {"settings": {"source": {"data": "digits", "label_file": []}, "baseline": True}}
    assert without_paths(config) == config


def test_what_cannot_be_uploaded_or_fetched_is_one_line(tmp_path: Path, client: Hub, monkeypatch: Any) -> None:
    model = made("probabilities")
    for name in ("digits", "ada/digits/more", "a b/c", "hf://digits", "", None):
        refused(lambda name=name: push_to_hub(model, name), "owner/name", repr(name))  # type: ignore[misc]
    refused(lambda: push_to_hub(model, "ada/digits@v1"), "without a revision")
    refused(lambda: push_to_hub(torch.nn.Linear(2, 2), "ada/digits"), "Linear", "a model of this library")  # type: ignore[arg-type]
    for words in ("mit\nprivate: false", "GPL: v3"):  # of the card's top, which is YAML
        refused(lambda words=words: push_to_hub(model, "ada/digits", license=words), "license", "'apache-2.0'")  # type: ignore[misc]
    refused(lambda: load("hf://digits"), "owner/name")
    refused(lambda: load("hf://ada/nothing"), "hf://ada/nothing", "404")
    refused(lambda: push_to_hub(tmp_path / "nowhere", "ada/digits"), "nowhere", "no such file")
    refused(lambda: push_to_hub(augmented(), "ada/digits"), "networks of its own")

    def offline(*rest: Any, **named: Any) -> Any:
        raise ConnectionError("no route to host\nat all")

    monkeypatch.setattr(client, "create_repo", offline)
    refused(lambda: push_to_hub(model, "ada/digits"), "ada/digits", "ConnectionError", "no route to host at all")
    monkeypatch.setattr(hub, "find_spec", lambda name: None if name == "huggingface_hub" else find_spec(name))
    refused(lambda: load("hf://ada/digits"), "huggingface_hub", "pip install pyro_ssvae[hub]")
    assert not client.place.exists()
