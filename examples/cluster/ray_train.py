"""One training by the workers of Ray Train, which makes their process group: python ray_train.py

It needs ``pip install "ray[train]"``, and the data where every worker sees them (PYRO_SSVAE_DATA).
"""

import ray.train
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

import pyro_ssvae as ps


def train(config: dict[str, str]) -> None:
    """Run in every worker: ``fit`` joins the group that is there, and leaves the trained model in all of them."""
    mnist = ps.data.load("mnist")
    y = ps.data.hide_labels(mnist.y, mnist.labels, keep=100, seed=0)
    vae = ps.create_model("augmented", input_shape=mnist.input_shape, labels=mnist.labels, latent_dim=50)
    history = ps.fit(vae, mnist.x, y, epochs=20, batch_size=1024, progress=False)
    if ray.train.get_context().get_world_rank() == 0:
        ps.save(vae, config["out"])
    ray.train.report({"loss": history["loss"][-1]})


if __name__ == "__main__":
    scaling = ScalingConfig(num_workers=4, use_gpu=True)
    trainer = TorchTrainer(train, train_loop_config={"out": "/shared/runs/mnist"}, scaling_config=scaling)
    print(trainer.fit().metrics)
