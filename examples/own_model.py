"""AugVAE with another generative model, a heavy-tailed prior on z, trained by ps.fit: python examples/own_model.py"""

import pyro
import pyro.distributions as dist

import pyro_ssvae as ps
from pyro_ssvae.nn.networks import default_decoder, default_encoder


class HeavyTailed(ps.AugmentedVAE):
    """p(z) is a Student's t of 4 degrees of freedom a dimension in place of N(0, 1); the guide stays as it is."""

    def model(self, x, y=None):
        """Run the library's model with the distribution of one site exchanged."""
        prior = dist.StudentT(x.new_full((self.latent_dim,), 4.0)).to_event(1)
        with Exchange({"z": prior}):
            return super().model(x, y)


class Exchange(pyro.poutine.messenger.Messenger):
    """Sample the named sites from these distributions."""

    def __init__(self, distributions):
        super().__init__()
        self.distributions = distributions

    def _pyro_sample(self, msg):
        if msg["name"] in self.distributions:
            msg["fn"] = self.distributions[msg["name"]].expand(msg["fn"].batch_shape)


def main(epochs: int = 200) -> ps.Sites:
    """Train with 50 labels and return the table of the sites, in which z has its new prior."""
    pyro.set_rng_seed(0)
    digits = ps.data.load("digits")
    y = ps.data.hide_labels(digits.y, digits.labels, keep=50, seed=0)
    encoder, decoder = default_encoder((1, 8, 8)), default_decoder((1, 8, 8), 20, 10)
    vae = HeavyTailed(encoder, decoder, digits.labels, latent_dim=20)
    ps.fit(vae, digits.x, y, epochs=epochs, progress=False)
    print(f"test accuracy {(vae.predict(digits.x_test) == digits.y_test).float().mean():.3f}")
    found = ps.sites(vae, digits.x_test[:100], num_samples=5)
    print(found)
    return found


if __name__ == "__main__":
    main()
