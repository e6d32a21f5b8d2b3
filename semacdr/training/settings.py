"""Settings of a training run, apart from the model's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from semacdr.config import Settings
from semacdr.data.split_names import LEAVE_ONE_OUT, in_full


class CommonSettings(Settings):
    """How a model is trained, whatever its task."""

    epochs: int = Field(40, ge=0)
    """Most passes over the training data; early stopping usually ends sooner."""
    batch_size: int = Field(128, gt=0)
    """Sequences in a step, on average (every position of each is a target, and steps have about equally many); for
    ratings, pairs."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak rate of AdamW, reached after the warm-up."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's decoupled decay; biases, norms and scalars are spared."""
    decay_all: bool = False
    """Decay biases, norms and scalars too, as some published recipes do."""
    warmup_steps: int = Field(100, ge=0)
    """Steps of linear warm-up."""
    final_rate: float = Field(1.0, gt=0, le=1)
    """Share of the peak rate at the last step of ``epochs``, reached by a cosine; 1 keeps the rate constant."""
    clip_norm: float = Field(5.0, gt=0)
    """Gradients are clipped to this norm."""
    patience: int = Field(4, gt=0)
    """Validations without a better score after which training stops."""
    eval_every: int = Field(1, gt=0)
    """Epochs between validations."""
    seed: int = Field(0, ge=0)
    """Seeds weights, batch order and dropout."""
    device: str = "auto"
    """auto: a GPU if there is one, else the CPU; or cpu, cuda, cuda:1."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast on a GPU that has it, fp32 on a CPU."""
    checkpoint_s: float = Field(120.0, gt=0)
    """Seconds between checkpoints inside an epoch; one is always written after a validation."""
    cap_cpu_s: float | None = Field(None, gt=0)
    """CPU seconds of training and validation after which no further epoch starts; the best weights so far are kept.
    CPU seconds, because a busy machine would otherwise shorten a training. None: no cap."""


class TrainSettings(CommonSettings):
    """How a ranking model is trained."""

    valid_protocol: Literal["full", "full-cold", "full-all", "sampled-999", "sampled-100"] = "full"
    """Protocol of the validation that early stopping follows."""
    split: Annotated[str, AfterValidator(in_full)] = LEAVE_ONE_OUT
    """How the data are divided: leave-one-out (a published split is taken as it is); transfer-X:DOMAIN, which hides X %
    of the chosen users' history in a domain; cold-item or cold-item-P, which hold P % of the items (10) out of
    training; cold-user or cold-user-P, which ask P % of the users in several domains (20) for their first step into
    one."""


class RatingTrainSettings(CommonSettings):
    """How a rating model is trained: on one domain, its ratings divided at random."""

    domain: str = Field(min_length=1)
    """The domain whose ratings are predicted."""
    split_seed: int = Field(0, ge=0)
    """Of the random 8 : 1 : 1 split of the ratings."""
    epochs: int = Field(20, ge=0)
    """Most passes over the training ratings; early stopping usually ends sooner."""
    batch_size: int = Field(64, gt=0)
    """Pairs in a step."""
