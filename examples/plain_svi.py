"""AugVAE on digits by Pyro's own SVI, with no training loop but this one: python examples/plain_svi.py"""

import pyro
import torch
from pyro.infer import SVI

import pyro_ssvae as ps


def main(steps: int = 1500) -> float:
    """Train with 50 labels of 1,438 and return the test accuracy."""
    pyro.set_rng_seed(0)
    digits = ps.data.load("digits")
    y = ps.data.hide_labels(digits.y, digits.labels, keep=50, seed=0)  # the others become -1
    labelled = (y != ps.MISSING).nonzero().squeeze(1)

    vae = ps.create_model("augmented", input_shape=digits.input_shape, labels=digits.labels)
    vae.prepare(digits.x, y)  # takes the prior over classes from the known labels
    svi = SVI(vae.model, vae.guide, pyro.optim.ClippedAdam({"lr": 1e-3}), loss=vae.objective())
    for step in range(steps):
        rows = torch.cat([torch.randint(len(y), (200,)), labelled])  # labelled and unlabelled in one batch
        loss = svi.step(digits.x[rows], y[rows]) / len(rows)
        if step % 250 == 0:
            print(f"step {step}: {loss:.1f} nats a point")

    accuracy = float((vae.predict(digits.x_test) == digits.y_test).float().mean())
    print(f"test accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
