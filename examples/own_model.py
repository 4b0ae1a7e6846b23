"""AugVAE with another prior on z, a mixture of heavy-tailed parts: python examples/own_model.py"""

import pyro
import pyro.distributions as dist
import torch

import pyro_ssvae as ps
from pyro_ssvae.nn.networks import default_decoder, default_encoder


class Mixture(ps.AugmentedVAE):
    """p(z) is a mixture of two Student's t in place of N(0, 1); the guide stays as it is."""

    def p_z(self, x):
        centres = x.new_tensor([[-1.0], [1.0]]).expand(2, self.config.latent_dim)
        return dist.MixtureSameFamily(dist.Categorical(x.new_ones(2)), dist.StudentT(4.0, centres, 1.0).to_event(1))


def main(epochs: int = 200) -> ps.Sites:
    """Train with 50 labels and return the table of the sites, in which z has its new prior."""
    pyro.set_rng_seed(0)
    digits = ps.data.load("digits")
    y = ps.data.hide_labels(digits.y, digits.labels, keep=50, seed=0)
    encoder, decoder = default_encoder((1, 8, 8)), default_decoder((1, 8, 8), 20, 10)
    vae = Mixture(encoder, decoder, digits.labels, latent_dim=20)
    ps.fit(vae, digits.x, y, epochs=epochs, progress=False)
    print(f"test accuracy {(vae.predict(digits.x_test) == digits.y_test).float().mean():.3f}")

    # Bounds, drawn points and posteriors are of the edited model.
    bound = ps.log_likelihood(vae, digits.x_test[:100], num_samples=100).mean()
    print(f"log p(x) >= {bound:.2f} nats; {len(vae.generate(10, torch.arange(10)))} digits drawn from the mixture")
    found = ps.sites(vae, digits.x_test[:100], num_samples=5)
    print(found)
    return found


if __name__ == "__main__":
    main()
