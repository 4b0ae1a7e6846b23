"""A ReVAE on faces drawn on the spot, and what it makes of "put glasses on": python examples/interventions.py

It needs the extra packages of pip install -e ".[avatars]".
"""

from pathlib import Path

import pyro

import pyro_ssvae as ps


def main(faces: int = 4000, epochs: int | None = None, out: str = "interventions.png") -> Path:
    """Train with a fifth of the labels and write a picture of four test faces, each with every attribute set."""
    pyro.set_rng_seed(0)
    avatars = ps.data.load(f"avatars:{faces}")
    y = ps.data.hide_labels(avatars.y, avatars.labels, keep=0.2, seed=0)
    vae = ps.create_model("revae", input_shape=avatars.input_shape, labels=avatars.labels, latent_dim=45)
    ps.fit(vae, avatars.x, y, epochs=epochs)

    x = avatars.x_test[:4]
    name = avatars.labels.names[0]
    changed = vae.intervene(x, {name: 1}, num_samples=5)  # [5, 4, 3, 64, 64]: the same faces, five kinds of it each
    print(f"{name} = 1: {list(changed.shape)}; standard deviation of a pixel {changed.std(0).mean():.3f}")
    ps.plots.intervention_table(vae, x, y=avatars.y_test[:4]).savefig(out)
    return Path(out)


if __name__ == "__main__":
    main()
