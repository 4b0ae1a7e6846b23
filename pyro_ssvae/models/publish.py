"""Upload a model or a run to the Hugging Face Hub, with a model card."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError, kind_of
from ..infer.protocols import Classifies
from . import Model
from .hub import check_client, failed, repository
from .identity import edits
from .saved_config import Json, read_config
from .saving import WEIGHTS, load, save

FILES = ("*.json", "*.safetensors", "history.csv", "figures/*.png")
"""What of a run's folder goes to the hub; checkpoints stay."""
SHOWN = 12  # names of labels in a card


def push_to_hub(
    run: Model | str | Path,
    name: str,
    *,
    private: bool = False,
    license: str | None = None,
    message: str = "Upload by pyro_ssvae",
) -> str:
    """Upload a model to ``owner/name`` on the Hugging Face Hub, and return its address there.

    Weights as safetensors, configuration and metrics as JSON, figures, and a model card (README.md) with metrics,
    labels and how to load it. ``ps.load("hf://owner/name")`` is the way back. Paths and the command that a run's
    configuration names are left out. The hub's client takes the token that ``hf auth login`` or ``HF_TOKEN`` gives.

    :param run: a run's or a saved model's folder, or a model.
    :param private: whether others cannot see a repository that is made for it.
    :param license: an identifier, such as ``apache-2.0``, for the card.
    :param message: of the commit.
    :raises InputError: a name without an owner, a folder without a model, another license, or a hub that says no.

    Example::

        ps.push_to_hub("runs/digits", "ada/digits-50")
        vae = ps.load("hf://ada/digits-50")
    """
    repo, revision = repository(name)
    if revision is not None:
        raise InputError(f"hub: {name!r}; {repo!r} is needed, without a revision")
    if license and re.fullmatch(r"[\w.+-]+", str(license), re.ASCII) is None:
        raise InputError(f"license: {str(license)[:80]!r}; an identifier is needed, such as 'apache-2.0'")
    check_client()
    with tempfile.TemporaryDirectory() as place:
        staged = Path(place)
        gather(run, staged)
        (staged / "README.md").write_text(card(staged, repo, license), "utf-8")
        return upload(staged, repo, private, message)


def upload(folder: Path, repo: str, private: bool, message: str) -> str:
    """Upload a folder's files into a repository, which is made where it is absent."""
    import huggingface_hub

    try:
        client = huggingface_hub.HfApi()
        address = client.create_repo(repo, private=private, exist_ok=True)
        client.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except Exception as error:  # of the client's own kinds, and of what it is built on
        raise failed(repo, error) from None
    return str(address)


def gather(run: Model | str | Path, staged: Path) -> None:
    """Copy what goes to the hub."""
    if isinstance(run, Model):
        if run.recipe is None:
            raise InputError(
                "hub: a model with networks of its own cannot be made again; one of create_model is needed"
            )
        if edited := edits(run):
            raise InputError(f"hub: an edited model ({edited}) cannot be made again; one as create_model makes it can")
        save(run, staged)
        return
    if not isinstance(run, (str, Path)):
        raise InputError(f"hub: {kind_of(run)}; a model of this library, or the folder of a run, is needed")
    folder = Path(run)
    config = read_config(folder)
    load(folder)  # whole, and of this library
    for pattern in FILES:
        for path in folder.glob(pattern):
            target = staged / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (staged / "config.json").write_text(json.dumps(without_paths(config), indent=2), "utf-8")


def without_paths(config: Json) -> Json:
    """Return a run's configuration without the command, and with files and folders by their names alone."""
    public = {name: value for name, value in config.items() if name != "command"}
    settings = public.get("settings")
    if isinstance(settings, dict) and isinstance(settings.get("source"), dict):
        source = dict(settings["source"])
        source["data"] = Path(str(source.get("data", ""))).name
        source["label_file"] = [Path(str(path)).name for path in source.get("label_file", ())]
        public["settings"] = {**settings, "source": source}
    return public


def card(folder: Path, repo: str, license: str | None) -> str:
    """Return the model card of a folder: what the hub reads at its top, then words."""
    config = read_config(folder)
    model = load(folder)
    made, labels = config["model"], config["labels"]
    metrics = read_metrics(folder / "metrics.json")
    shape = tuple(made["input_shape"])
    head = ["---", "library_name: pyro_ssvae", "tags:", "- semi-supervised", "- variational-autoencoder", "- pyro"]
    if isinstance(model, Classifies) and len(shape) != 2:
        head.append(f"pipeline_tag: {'image' if len(shape) == 3 else 'tabular'}-classification")
    head += [f"license: {license}"] if license else []
    lines = [*head, "---", "", f"# {repo.partition('/')[2]}", ""]
    lines += [
        f"A `{made['name']}` of [pyro_ssvae](https://pypi.org/project/pyro_ssvae), points of shape {list(shape)}."
    ]
    if labels is not None:
        names = labels["names"]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines += ["", f"**{labels['kind'].capitalize()}**: {', '.join(map(str, names[:SHOWN]))}{more}."]
    lines += [*trained_on(metrics), *metrics_table(metrics)]
    lines += ["", "```python", "import pyro_ssvae as ps", "", f'vae = ps.load("hf://{repo}")']
    lines += ["vae.predict_proba(x)  # x: [N, " + ", ".join(map(str, shape)) + "]"] * isinstance(model, Classifies)
    lines += ["```", "", f"Weights: `{WEIGHTS}` (safetensors); options: `config.json`. Nothing is pickled.", ""]
    return "\n".join(lines)


def read_metrics(path: Path) -> Json:
    """Return a run's metrics; empty for a model that was saved alone."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def trained_on(metrics: Json) -> list[str]:
    """Return the line of a card on its data; none where nothing is known."""
    data = metrics.get("data")
    if not isinstance(data, dict):
        return []
    counts = f"{data.get('train')} points, {data.get('labelled')} with a label; {data.get('test')} test points"
    return ["", f"Trained on {Path(str(data.get('name'))).name}: {counts}."]


def metrics_table(metrics: Json) -> list[str]:
    """Return the test's numbers as a table, beside those of a classifier of the labels alone; empty without."""
    test, alone = metrics.get("test"), metrics.get("baseline")
    if not isinstance(test, Mapping):
        return []
    beside = alone if isinstance(alone, Mapping) else {}
    rows = [name for name, value in test.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]
    table = ["", "| test | this model | labels alone |", "|---|---|---|"]
    return table + [
        f"| {name.replace('_', ' ')} | {number(test[name])} | {number(beside.get(name))} |" for name in rows
    ]


def number(value: object) -> str:
    """Return a number as a cell of a table; empty for anything else."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else ""
