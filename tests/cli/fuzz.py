"""Broken files for every loader: each ends in data or in an InputError of one line, soon, in bounded memory.

    python tests/cli/fuzz.py --inputs 100000                # mutations of valid files, all kinds in turn
    python tests/cli/fuzz_guided.py npz --inputs 100000     # one kind, guided by coverage; needs pip install atheris

Mutations know the formats: an array inside an archive is changed and packed again, a PNG's and a checkpoint's checksums
are made to fit, so that the code behind the checksums is reached too.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from pyro_ssvae.data.arrays import load_npz
from pyro_ssvae.data.images import decode, inspect
from pyro_ssvae.data.label_file import add_labels
from pyro_ssvae.data.labels_csv import read_labels_csv
from pyro_ssvae.data.standard import read_idx
from pyro_ssvae.errors import InputError
from pyro_ssvae.experiment.config import ExperimentConfig, experiment_of
from pyro_ssvae.files import checksum
from pyro_ssvae.labels import ClassLabels
from pyro_ssvae.models.saved_config import build, read_config
from pyro_ssvae.models.saving import load
from pyro_ssvae.train.checkpoints import load_newest

MEMORY = 3 * 2**29  # bytes that an input of some KB may make the process grow by: an image of MAX_PIXELS takes the most
SECONDS = 20  # for one input
Mutation = Callable[[bytes, random.Random], bytes]


@dataclass
class Kind:
    """A kind of file: valid ones, its loader, and what is done to it beside changes of bytes."""

    name: str
    seeds: list[bytes]
    read: Callable[[Path], Any]
    mutations: list[Mutation] = field(default_factory=list)


@dataclass
class Came:
    """What came of the inputs."""

    accepted: int = 0
    refused: int = 0
    escaped: list[str] = field(default_factory=list)


# Mutations.

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 10**12)


def bytes_changed(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes put in, taken out, doubled or cut off; numbers put over others."""
    made = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if not made:
            made = bytearray(rng.randbytes(rng.randint(0, 30)))
        place, n = rng.randrange(len(made) + 1), rng.choice([1, 1, 2, 4, 8, 64])
        match rng.randrange(7):
            case 0 if place < len(made):
                made[place] ^= 1 << rng.randrange(8)
            case 1:
                made[place : place + n] = rng.randbytes(n)
            case 2:
                del made[place : place + n]
            case 3:
                made[place:place] = made[place : place + n * rng.choice([1, 100])]
            case 4 if rng.random() < 0.3:
                del made[place:]
            case 5:
                width, order = rng.choice("bhiq"), rng.choice("<>")
                number = rng.choice(NUMBERS) % 2 ** (8 * struct.calcsize(width))
                made[place : place + struct.calcsize(width)] = struct.pack(order + width.upper(), number)
            case _:
                made[place : place + n] = bytes([rng.choice(b"\0\xff,\n\"'0-/\\.{}[]:")]) * n
    return bytes(made[: 2**20])


def json_changed(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """One value somewhere in a JSON document put in place of another."""
    odd = [None, True, {}, [], "", "x" * 300, "\0", "../..", "NaN", 1e308, -1e-308, float("nan"), float("inf")]
    odd += [*NUMBERS, 0.5, [[]] * 3, {"": {}}, "augmented", "revae", "m1+m2", [3, 4], [10**6, 10**6, 3]]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        made, key = dict(value), rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                made.pop(key)
            case 1:
                made[rng.choice([*value, "other", ""])] = made.pop(key)
            case _:
                made[key] = json_changed(value[key], rng, depth + 1)
        return made
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        changed = json_changed(value[place], rng, depth + 1)
        return [*value[:place], *rng.choice([[changed], [], [changed, changed]]), *value[place + 1 :]]
    return rng.choice(odd)


def json_mutation(content: bytes, rng: random.Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return bytes_changed(content, rng)
    for _ in range(rng.choice([1, 1, 2, 3])):
        value = json_changed(value, rng)
    return json.dumps(value).encode()


def archive_mutation(content: bytes, rng: random.Random) -> bytes:
    """An array inside an archive changed, in its header or its numbers, and packed again with checksums that fit."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return bytes_changed(content, rng)
    name = rng.choice(list(members))
    array = members[name]
    match rng.randrange(6):
        case 0:
            members[name] = header_changed(array, rng)
        case 1:
            members[name] = array[:128] + bytes_changed(array[128:], rng)
        case 2:
            members[name] = bytes_changed(array, rng)
        case 3:
            members[rng.choice(["x.npy", "y.npy", "x_test.npy", "y_test.npy", "names.npy", "../x.npy"])] = array
        case 4:
            del members[name]
        case 5:
            members[name] = npy(odd_array(rng))
    return packed(members, rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))


def header_changed(array: bytes, rng: random.Random) -> bytes:
    """An array file whose header says another dtype, order or shape."""
    shape = tuple(rng.choice([0, 1, 2, 3, 12, *NUMBERS]) for _ in range(rng.randrange(6)))
    descr = rng.choice(["<f4", "<f8", "|u1", "<i8", "|O", "<U3", "|S4", "|V8", "<c8", "<M8[s]", "?", "<f2", "x", ""])
    descr = rng.choice([descr, [("a", "<f4")], None, ("|u1", (2, 2))])
    words: Any = {"descr": descr, "fortran_order": rng.choice([True, False, None]), "shape": shape}
    words = rng.choice([words, words, {**words, "more": 1}, "__import__('os').getcwd()", "(" * 90, {}])
    text = repr(words).encode() if not isinstance(words, str) else words.encode()
    text = text + b" " * rng.randrange(64) + b"\n"
    version = rng.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\xff\xff"])
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + array[128:]


def odd_array(rng: random.Random) -> np.ndarray:
    made = np.random.default_rng(rng.randrange(2**32))
    shape = tuple(rng.choice([0, 1, 2, 3, 5, 12]) for _ in range(rng.randrange(6)))
    kind = rng.choice(["u1", "i1", "i8", "u8", "f2", "f4", "f8", "?", "U2", "S2", "c8", "M8[s]"])
    if kind[0] == "f":
        values = made.choice([0, 1, 0.5, -1, np.nan, np.inf, 1e38], shape)
    elif kind[0] == "U":
        return np.array(made.choice(["a", "b", "", "-1", "é", "\ud800"[:0] + "x"], shape))
    else:
        values = made.integers(-2, 300, shape)
    with np.errstate(all="ignore"):
        return np.asarray(values).astype(kind)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype == object)
    return file.getvalue()


def packed(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def png_mutation(content: bytes, rng: random.Random) -> bytes:
    """A chunk of a PNG changed, with a checksum that fits."""
    if content[:4] != b"\x89PNG":
        return bytes_changed(content, rng)
    chunks, place = [], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return bytes_changed(content, rng)
    i = rng.randrange(len(chunks))
    name, body = chunks[i]
    if name == b"IHDR" and rng.random() < 0.7:
        width, height = (rng.choice([0, 1, 20, 8000, 65535, 2**31 - 1, rng.randrange(2**32)]) for _ in range(2))
        body = struct.pack(">II", width, height) + bytes(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255]) for _ in range(5))
    elif name == b"IDAT" and rng.random() < 0.5:
        body = zlib.compress(rng.randbytes(rng.randrange(500)) + b"\0" * rng.choice([0, 10**6]))
    else:
        body = bytes_changed(body, rng)
    chunks[i] = (rng.choice([name, name, name, b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"PLTE", b"tRNS"]), body)
    if rng.random() < 0.2:
        chunks.insert(i, (b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10**6)))
    join = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return content[:8] + b"".join(join)


def safetensors_mutation(content: bytes, rng: random.Random) -> bytes:
    """The header of a checkpoint changed: places, shapes and types of tensors, or its state, with its checksum."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):
        return bytes_changed(content, rng)
    body = content[8 + length :]
    state = (header.get("__metadata__") or {}).get("state")
    if state is not None and rng.random() < 0.6:
        try:
            made = json.dumps(json_changed(json.loads(state), rng))
            tensors = {name: torch.zeros(3) for name in ("a", "b")}
            return save(tensors, metadata={"state": made, "sha256": checksum(tensors, {"state": made})})
        except (ValueError, RecursionError):
            return bytes_changed(content, rng)
    made_header = json.dumps(json_changed(header, rng)).encode()
    size = rng.choice([len(made_header)] * 5 + [len(made_header) + 1, 2**40, 2**63])
    return struct.pack("<Q", size) + made_header + body


# The kinds.


def kinds(place: Path) -> dict[str, Kind]:
    """Every kind of file that is read; ``place`` holds what the loaders need beside it."""
    from pyro_ssvae import create_model
    from pyro_ssvae import save as save_model

    rng = np.random.default_rng(0)
    grey, y = rng.integers(0, 256, (12, 6, 5), np.uint8), np.arange(12) % 3
    arrays: list[dict[str, Any]] = [
        {"x": grey, "y": y, "names": np.array(["a", "b", "c"])},
        {"x": rng.random((12, 4)), "y": np.where(y > 0, y, -1), "x_test": rng.random((3, 4)), "y_test": y[:3]},
        {"x": rng.random((12, 3, 6, 5)).astype("f4"), "y": np.array(["cat", "dog", ""])[y]},
        {"x": rng.random((12, 2, 7)), "y": np.stack([y > 0, y > 1], 1).astype(int)},
    ]
    npz = [packed({f"{name}.npy": npy(np.asarray(array)) for name, array in each.items()}) for each in arrays]
    images = []
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        for mode in ("L", "RGB"):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (9, 7, *(3,) * (mode == "RGB")), np.uint8)).save(file, form)
            images.append(file.getvalue())
    for mode in ("P", "1", "RGBA", "LA", "I;16"):
        file = io.BytesIO()
        Image.new(mode, (7, 9)).save(file, "PNG")
        images.append(file.getvalue())
    csv = [
        b"file,label\na.png,cat\nb.png,dog\nc.png,\n",
        b'\xef\xbb\xbffile,hat,beard,split\n"a b.png",1,0,train\nsub/b.png,,1,test\nc.png,0.0,1.0,\n',
        'name,label\nä.png,"zwei\nZeilen"\nb.png,1\nc.png,10\n'.encode(),
    ]
    vae = create_model("augmented", input_shape=(5,), labels=ClassLabels(3), latent_dim=2)
    save_model(vae, place / "model", settings=ExperimentConfig().recorded(), evaluation={})
    tensors = {"model.a": torch.randn(4), "rng.cpu": torch.get_rng_state()[:64]}
    state = json.dumps({"about": {"format": 2}, "done": 3, "seconds": 0.5, "history": {"loss": [1.0]}, "rollbacks": 0})
    checkpoint = save(tensors, metadata={"state": state, "sha256": checksum(tensors, {"state": state})})

    def read_image(path: Path) -> None:
        grey, _ = inspect(path)
        decode(path, grey=grey, size=(8, 8))

    def read_configuration(path: Path) -> None:
        config = read_config(path.parent)
        experiment_of(config, path.parent)
        if config["model"] is not None:
            build(config, path)

    def read_model(path: Path) -> None:
        os.replace(path, place / "model" / "model.safetensors")
        load(place / "model")

    def read_labels(path: Path) -> None:
        add_labels(path, torch.tensor([0, -1, 2]), torch.tensor([4, 7, 9]), ClassLabels(3, ["a", "b", "c"]))

    weights = (place / "model" / "model.safetensors").read_bytes()
    small = save({"a": torch.zeros(3), "b": torch.ones(2, 2, dtype=torch.float64)})
    idx = [b"\0\0\x08\3\0\0\0\2\0\0\0\2\0\0\0\3" + bytes(12), b"\0\0\x08\1\0\0\0\4\0\1\2\3"]
    made = [
        Kind("npz", npz, load_npz, [archive_mutation] * 3),
        Kind("labels.csv", csv, read_labels_csv),
        Kind("label file", [b"index,label\n4,a\n7,b\n9,\n"], read_labels),
        Kind("image", images, read_image, [png_mutation]),
        Kind(
            "configuration", [(place / "model" / "config.json").read_bytes()], read_configuration, [json_mutation] * 4
        ),
        Kind("checkpoint", [checkpoint], load_newest, [safetensors_mutation] * 2),
        Kind("weights", [small, weights], read_model, [safetensors_mutation]),
        Kind("idx", idx, read_idx),
    ]
    return {kind.name: kind for kind in made}


FILES = {"npz": "own.npz", "configuration": "config.json", "image": "a.png"}


@contextmanager
def bounded(memory: int = MEMORY) -> Iterator[None]:
    """An address space that may grow by so many bytes and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class TooSlow(BaseException):
    """An input took longer than :data:`SECONDS`."""


def too_slow(number: int, frame: Any) -> None:
    raise TooSlow


def try_one(kind: Kind, content: bytes, place: Path, came: Came) -> None:
    """Give a loader a file; note whether it took it, refused it, or did anything else."""
    path = place / FILES.get(kind.name, "a")
    path.write_bytes(content)
    before = set(os.listdir(place))
    problem = ""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        kind.read(path)
        came.accepted += 1
    except InputError as error:
        came.refused += 1
        if "\n" in str(error) or len(str(error)) > 1000 or not str(error):
            problem = f"message {str(error)[:200]!r}"
    except (Exception, TooSlow) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if not set(os.listdir(place)) <= before:
        problem = problem or "something was written"
    if problem:
        came.escaped.append(f"{kind.name}: {problem}: {base64.b64encode(zlib.compress(content))[:2000].decode()}")


def changed(kind: Kind, content: bytes, rng: random.Random) -> bytes:
    """The file changed; one that an earlier change left without its format by bytes alone."""
    try:
        return rng.choice([bytes_changed, *kind.mutations])(content, rng)
    except Exception:
        return bytes_changed(content, rng)


def fuzz(names: list[str], inputs: int, seed: int = 0, seconds: float = float("inf")) -> dict[str, Came]:
    """Mutate the valid files of these kinds, in turn, so many inputs in all."""
    rng, started = random.Random(seed), time.monotonic()
    signal.signal(signal.SIGALRM, too_slow)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        every = kinds(place)
        chosen = [every[name] for name in names or every]
        came = {kind.name: Came() for kind in chosen}
        work = place / "work"
        work.mkdir()
        with bounded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i in range(inputs):
                kind = chosen[i % len(chosen)]
                content = rng.choice(kind.seeds)
                for _ in range(rng.choice([0, 1, 1, 1, 1, 2, 3])):  # none: the valid file itself
                    content = changed(kind, content, rng)
                try_one(kind, content, work, came[kind.name])
                if time.monotonic() - started > seconds:
                    break
    return came


def report(came: dict[str, Came], started: float) -> None:
    for name, each in came.items():
        total = each.accepted + each.refused + sum("message" not in line for line in each.escaped)
        print(f"{name:15} {total:7} inputs, {each.accepted} taken, {each.refused} refused, {len(each.escaped)} escaped")
        print(*each.escaped[:20], sep="\n", end="\n" if each.escaped else "")
    print(f"{time.monotonic() - started:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--kind", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    came = fuzz(asked.kind, asked.inputs, asked.seed)
    report(came, started)
    return int(any(each.escaped for each in came.values()))


if __name__ == "__main__":
    sys.exit(main())
