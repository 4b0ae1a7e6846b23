"""What changes from step to step of a training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..infer.batched import all_finite
from .average import Average
from .checkpoints import Json, State, optimizer_numbers, optimizer_tensors, restore_optimizer
from .group import Measured
from .plan import Plan
from .progress import Row
from .random_state import generator_tensors, other_generators, restore_generators
from .step import Step

History = dict[str, list[float]]
MEASURES = frozenset({"validation_accuracy", "validation_loss"})
"""Columns of the history, of which a training has one at a time: with labels the first, without them the second."""
APART = 200  # steps between two finite states that are kept, at least: keeping one costs as much as some steps


class NotFinite(Exception):  # noqa: N818
    """A loss or a parameter that is NaN or infinite.

    :ivar step: the step that it came up in, counted from 0.
    :ivar where: in words; empty where it is not known.
    """

    def __init__(self, step: int, where: str = "") -> None:
        super().__init__(step, where)
        self.step, self.where = step, where


class TrainingState:
    """Parameters, their average, the optimiser, the random numbers, the steps done and the history so far.

    :param objective: holds the pair, and networks outside of it.
    :param free: parameters that no module holds, those of ``pyro.param``.
    :param optimizer: over all of them.
    :param average: of all of them.
    :param plan: about twenty times in it, at the end of an epoch, the state is kept as ``last_finite``, but not more
        often than every :data:`APART` steps.
    :param columns: of the history.
    :param keeps_best: whether the best epoch's averages are kept.
    :param patience: epochs without gain after which the training is finished; None for any number.
    :param is_main: False in all processes of a training but one.
    :ivar begun: steps that were done when the learning rate's schedule began; more than 0 in a training that goes on
        after its end.
    :ivar warm: whether what grows in a training is whole.
    :ivar rollbacks: how many times the training went back because of numbers that were not finite.
    :ivar score: of the best epoch; larger is better.
    :ivar best: the best epoch's averages by name, and its numbers.
    :ivar gained: the epoch that last raised the first of the score's numbers, and that number.
    """

    def __init__(
        self,
        objective: Step,
        free: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        average: Average,
        plan: Plan,
        *,
        columns: Sequence[str],
        device: torch.device,
        keeps_best: bool = False,
        patience: int | None = None,
        is_main: bool = True,
    ) -> None:
        self.objective, self.free, self.optimizer, self.average = objective, free, optimizer, average
        self.plan, self.device, self.keeps_best, self.patience = plan, device, keeps_best, patience
        self.is_main = is_main
        self.mark = max(plan.epochs // 20, math.ceil(APART / plan.per_epoch)) * plan.per_epoch
        self.history: History = {column: [] for column in columns}
        self.done = self.rollbacks = self.begun = 0
        self.warm = False
        counted = [column for column in columns if column in ("loss", "decodes")]
        self.counts = {column: torch.zeros(plan.per_epoch, device=device) for column in counted}  # of an epoch's steps
        self.score: list[float] | None = None
        self.best: tuple[dict[str, Tensor], Row] | None = None
        self.best_written = True
        self.gained: tuple[int, float] = (0, -math.inf)
        self.started = time.monotonic()
        self.last_finite = self.snapshot()
        self.last_finite_written = True  # the beginning needs no file

    @property
    def seconds(self) -> float:
        """How long the training has run; the time between a stop and its resumption does not count."""
        return time.monotonic() - self.started

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.done // self.plan.per_epoch

    @property
    def stopped_early(self) -> bool:
        """Whether as many epochs as the patience have brought no gain."""
        return self.patience is not None and self.epoch - self.gained[0] >= self.patience

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.done >= self.plan.steps or self.stopped_early

    @property
    def rate_scale(self) -> float:
        """What the learning rate is multiplied by, after rollbacks."""
        return float(0.1**self.rollbacks)

    def begin_cycle(self, *, anew: bool) -> None:
        """Begin another cycle of the learning rate, over the steps that are left; the history goes on.

        :param anew: also let what grows in a training grow again, and forget what was best, which was of other labels.
        """
        self.begun, self.warm = self.done, not anew
        if anew:
            self.score, self.best, self.gained = None, None, (self.epoch, -math.inf)
        self.gained = (self.epoch, self.gained[1])
        self.last_finite, self.last_finite_written = self.snapshot(), True

    def count(self, measured: Measured) -> None:
        """Note a step."""
        place = self.done % self.plan.per_epoch
        self.counts["loss"][place] = measured.loss.detach()
        if measured.decodes is not None:
            self.counts["decodes"][place] = measured.decodes
        self.done += 1

    def end_epoch(self) -> Row:
        """Return the history's row of an epoch that ends here; raise :class:`NotFinite` where its loss is not."""
        self.check_loss()
        means = {column: count.double().mean().item() for column, count in self.counts.items()}
        means["loss"] /= self.plan.batch_size if self.objective.added else self.plan.rows
        for count in self.counts.values():
            count.zero_()
        return {"epoch": float(self.epoch), **means, "seconds": self.seconds}

    def check_loss(self) -> None:
        """Raise :class:`NotFinite` naming the epoch's first step whose loss was not finite."""
        wrong = ~self.counts["loss"].isfinite()
        if bool(wrong.any()):
            first = (self.done - 1) // self.plan.per_epoch * self.plan.per_epoch
            raise NotFinite(first + int(wrong.int().argmax()))

    def record(self, row: Row) -> None:
        """Add an epoch's row to the history, and keep what is best so far, and what is finite."""
        score = score_of(row)
        if self.keeps_best and score is not None:
            if score[0] > self.gained[1]:
                self.gained = (int(row["epoch"]), score[0])
            if self.score is None or score > self.score:
                self.score = score
                facts = {k: v for k, v in row.items() if k != "seconds" and not math.isnan(v)}
                self.best, self.best_written = (copied(self.average.tensors()), facts), False
        if "best_epoch" in self.history:
            row["best_epoch"] = math.nan if self.best is None else self.best[1]["epoch"]
        for column, values in self.history.items():
            values.append(row.get(column, math.nan))
        if self.done % self.mark == 0 or self.done == self.plan.steps:
            self.last_finite, self.last_finite_written = self.snapshot(), False

    def add_columns(self, columns: Sequence[str]) -> None:
        """Add those that the history lacks, not measured so far."""
        for column in columns:
            self.history.setdefault(column, [math.nan] * len(self.history["epoch"]))

    def summary(self) -> str:
        """Return the latest numbers, in words."""
        words = ""
        shown = {"loss": 2, "decodes": 2, "kl": 2, "reconstruction": 2, "active_units": 0}
        shown |= {"validation_accuracy": 3, "validation_loss": 2, "best_epoch": 0}
        for column, digits in shown.items():
            numbers = [value for value in self.history.get(column, ())[-100:] if not math.isnan(value)]
            words += f"  {column.replace('_', ' ')} {numbers[-1]:.{digits}f}" if numbers else ""
        return words

    def snapshot(self) -> State:
        """Return everything, copied to the CPU; raise :class:`NotFinite` where a parameter or the loss is not."""
        self.check_finite()
        names = {"model": self.objective.module, "outside": self.objective.outside}
        tensors = {f"{name}.{k}": t for name, module in names.items() for k, t in module.state_dict().items()}
        tensors |= {f"free.{i}": p for i, p in enumerate(self.free)}
        tensors |= {f"averaged.{name}": t for name, t in self.average.tensors().items()}
        tensors |= optimizer_tensors(self.optimizer)
        tensors |= {f"count.{column}": count for column, count in self.counts.items()}
        tensors |= generator_tensors(self.device)
        if self.best is not None and self.patience is not None:  # what the model ends with
            tensors |= {f"best.{name}": t for name, t in self.best[0].items()}
        state = {
            "done": self.done,
            "begun": self.begun,
            "warm": self.warm,
            "seconds": self.seconds,
            "history": {column: list(values) for column, values in self.history.items()},
            "optimizer": optimizer_numbers(self.optimizer),
            "rollbacks": self.rollbacks,
            "score": self.score,
            "gained": list(self.gained),
            "best": None if self.best is None or self.patience is None else self.best[1],
            "random": other_generators(),
        }
        return copied(tensors), state

    def check_finite(self) -> None:
        """Raise :class:`NotFinite` where steps have left a loss or a parameter that is not finite."""
        if self.done == 0:
            return
        if self.done % self.plan.per_epoch:
            self.check_loss()
        named = [*self.objective.named(), *((f"{i} of pyro.param", p) for i, p in enumerate(self.free))]
        trained = [(name, p) for name, p in named if p.requires_grad]
        if not all_finite(p for _, p in trained):
            spoilt = next(name for name, p in trained if not all_finite([p]))
            raise NotFinite(self.done - 1, f"parameter {spoilt}")

    def roll_back(self) -> None:
        """Go back to the last finite state; what was best stays."""
        rollbacks, best = self.rollbacks, (self.score, self.best, self.best_written, self.gained)
        self.put_back(*self.last_finite)
        self.rollbacks, (self.score, self.best, self.best_written, self.gained) = rollbacks + 1, best

    def put_back(self, tensors: Mapping[str, Tensor], saved: Json) -> None:
        """Take over what :meth:`snapshot` returned."""
        self.objective.module.load_state_dict(part(tensors, "model."))
        self.objective.outside.load_state_dict(part(tensors, "outside."))
        with torch.no_grad():
            for i, p in enumerate(self.free):
                p.copy_(tensors[f"free.{i}"])
            for column, count in self.counts.items():
                count.copy_(tensors[f"count.{column}"])
        self.average.load(part(tensors, "averaged."))
        restore_optimizer(self.optimizer, tensors, saved["optimizer"])
        restore_generators(tensors, saved["random"], self.device)
        self.history = {column: list(values) for column, values in saved["history"].items()}
        self.done, self.rollbacks, self.score = saved["done"], saved["rollbacks"], saved["score"]
        self.begun, self.warm = saved["begun"], saved["warm"]
        epoch, value = saved["gained"]
        self.gained = (epoch, value)
        best = part(tensors, "best.")
        self.best, self.best_written = ((best, saved["best"]) if best else None), True


def score_of(row: Row) -> list[float] | None:
    """Return how good an epoch is, larger being better; None where it was not measured.

    By accuracy, of equal ones by the loss; without an accuracy by the validation's loss; without either by the loss.
    """
    if "validation_accuracy" in row:
        score = [row["validation_accuracy"], -row["loss"]]
    else:
        score = [-row.get("validation_loss", row["loss"])]
    return None if math.isnan(score[0]) else score


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with ``prefix``, which is cut off."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
