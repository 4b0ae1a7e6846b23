"""A training that is stopped half-way and gone on with, to the same weights: python examples/resuming.py"""

import tempfile
from pathlib import Path

import pyro
import torch

import pyro_ssvae as ps


class StopHere(Exception):  # noqa: N818
    """Stands for whatever stops a training; Ctrl-C writes the checkpoint and raises Interrupted."""


def main(epochs: int = 60) -> float:
    """Return the largest difference of a weight between the training in one piece and that in two: 0."""
    digits = ps.data.load("digits")
    y = ps.data.hide_labels(digits.y, digits.labels, keep=50, seed=0)

    def trained(**options) -> ps.Model:
        pyro.set_rng_seed(0)
        vae = ps.create_model("augmented", input_shape=digits.input_shape, labels=digits.labels, latent_dim=20)
        ps.fit(vae, digits.x, y, epochs=epochs, progress=False, **options)
        return vae

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == epochs // 2:
            raise StopHere

    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "last.safetensors"
        try:
            trained(checkpoint=kept, checkpoint_every=0, on_epoch=stop)  # writes its state after every step
        except StopHere:
            print(f"stopped in epoch {epochs // 2}; the state is in {kept}")
        resumed = trained(checkpoint=kept, resume=True)
    whole = trained()
    pairs = zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    difference = max(float((a.double() - b.double()).abs().max()) for a, b in pairs if a.is_floating_point())
    print(f"largest difference of a weight: {difference:g}")
    print(f"test accuracy {(resumed.predict(digits.x_test) == digits.y_test).to(torch.float).mean():.3f}")
    return difference


if __name__ == "__main__":
    main()
