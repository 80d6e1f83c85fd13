"""The sections of a training run: `data`, `training`, `sampling`."""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from headrace.recipe.control import ControlUse
from headrace.recipe.section import Section


class Data(Section):
    """What the loader feeds."""

    path: str
    """a dataset made by `headrace build`"""
    version: int | None = Field(None, ge=0)
    """the dataset's version; null for the newest when the run starts"""
    batch_size: int = Field(64, ge=1)
    """samples of one step, over all ranks"""
    image: str = "image"
    """the column of encoded images"""
    caption: str | None = "caption"
    """the column of captions; null for none"""
    label: str | None = None
    """the column of class labels, whole numbers from 0"""
    condition: str | None = None
    """the column of encoded condition images"""
    where: dict[str, str] = Field(default_factory=dict)
    """values of partition columns: only these partitions are loaded"""
    flip: float = Field(0.0, ge=0, le=1)
    """share of samples mirrored left to right"""
    captions: Literal["all", "one_per_image", "weighted"] = "all"
    """every row; or of each image one row an epoch: in turn, or drawn by `weight`"""
    image_key: str | None = None
    """the column that tells images apart; null for the image itself"""
    weight: str | None = None
    """the column of weights, for captions: weighted"""
    threads: int = Field(2, ge=1)
    """decoding threads of a rank"""


class NetworkSettings(Section):
    """What one network has otherwise than the others; null: as they have it."""

    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False)
    """peak of the learning rate"""
    weight_decay: float | None = Field(None, ge=0)
    """AdamW's decay"""
    beta1: float | None = Field(None, ge=0, lt=1)
    """AdamW's memory of the gradient"""
    beta2: float | None = Field(None, ge=0, lt=1)
    """AdamW's memory of the gradient's square"""
    ema: float | None = Field(None, ge=0, lt=1)
    """decay of the averaged weights, per step"""
    ema_width: float | None = Field(None, gt=0, lt=0.28)
    """instead of a decay, the relative width of the average"""


Bytes = Annotated[int, Field(ge=1, strict=True)]
"""a size; true is none"""


class Training(Section):
    """One run of the trainer."""

    run: str
    """the run folder"""
    steps: int = Field(ge=1)
    """optimizer steps"""
    seed: int = 0
    """the seed of weights, order and noise"""
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    """peak of the learning rate"""
    warmup: int = Field(100, ge=0)
    """steps until the peak"""
    decay: Literal["constant", "cosine", "inverse_sqrt"] = "constant"
    """how the learning rate falls after the warm-up"""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's decay"""
    beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's memory of the gradient"""
    beta2: float = Field(0.999, ge=0, lt=1)
    """AdamW's memory of the gradient's square"""
    clip: float = Field(1.0, gt=0)
    """largest norm of a gradient"""
    ema: float = Field(0.999, ge=0, lt=1)
    """decay of the averaged weights, per step"""
    ema_width: float | None = Field(None, gt=0, lt=0.28)
    """instead of a decay, the width of the average as a share of the run so far; null: ema"""
    accumulate: int = Field(1, ge=1)
    """parts that a rank's batch is cut into, one after the other"""
    networks: dict[str, NetworkSettings] = Field(default_factory=dict)
    """settings of single networks, by name"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """the type that matrix products run in: with fp16 the loss is scaled; auto is bf16 if the device has it natively,
    else fp32, and a run keeps what it started with"""
    compile: bool = False
    """whether each block of the networks is compiled by torch.compile"""
    parallel: Literal["ddp", "fsdp", "hsdp"] = "ddp"
    """what ranks share: gradients (ddp), also weights and optimizers (fsdp), or these within groups of ranks (hsdp)"""
    shard: int | None = Field(None, ge=1)
    """ranks of a group of hsdp; null for those of one machine"""
    activation: Literal["none", "full", "every_k", "sqrt", "selective"] | Bytes = "none"
    """activation checkpointing: a policy or a budget in bytes"""
    segment: int = Field(2, ge=1)
    """blocks of a segment under the policy every_k"""
    checkpoint_every: int = Field(500, ge=1)
    """steps between run checkpoints"""
    keep: int = Field(2, ge=1)
    """last checkpoints kept"""
    keep_best: bool = True
    """whether the checkpoint of the least loss is kept besides: in evaluations, or else in training"""
    max_skipped: int = Field(25, ge=1)
    """steps in a row that may be skipped because their gradients are no finite numbers"""
    sample_every: int | None = Field(None, ge=1)
    """steps between grids of samples; null for none"""
    evaluate_every: int | None = Field(None, ge=1)
    """steps between evaluations of the loss under averaged weights; null for none"""
    evaluate_where: dict[str, str] = Field(default_factory=dict)
    """values of partition columns instead of those in `data.where`: what is evaluated"""
    evaluate_samples: int = Field(256, ge=1)
    """samples of an evaluation"""
    tensorboard: bool = True
    """whether figures go to TensorBoard's files too"""


class Sampling(Section):
    """How samples are drawn from a run."""

    prompts: tuple[str, ...] = ()
    """captions: a row of images for each"""
    labels: tuple[int, ...] = ()
    """class labels: a row of images for each; with prompts, one for each of them"""
    examples: int = Field(0, ge=0)
    """a row of images for each of the first samples of the dataset, where there are neither prompts nor labels"""
    sampler: str = "ddim"
    """ddim, ddpm, heun, dpmpp_2m, dpmpp_2m_sde, unipc, langevin or predictor_corrector"""
    steps: int = Field(50, ge=1, le=1000)
    """noise levels visited; a network call each, two with heun and predictor_corrector, 100 with langevin"""
    spacing: Literal["trailing", "uniform", "quadratic", "karras"] = "trailing"
    """which levels of the schedule are visited"""
    eta: float | None = Field(None, ge=0, le=1)
    """noise of ddim (0 none, the default, 1 that of ddpm) and of dpmpp_2m_sde (1 by default)"""
    variance: Literal["small", "large"] | None = None
    """variance of ddpm: small (β̃, the default) or large (β)"""
    churn: float | None = Field(None, ge=0, allow_inf_nan=False)
    """noise of heun, 0 by default"""
    corrections: int | None = Field(None, ge=0)
    """Langevin steps of predictor_corrector after each of its steps, 1 by default"""
    snr: float | None = Field(None, gt=0)
    """size of the corrections of predictor_corrector, 0.16 by default"""
    rate: float | None = Field(None, gt=0, le=1)
    """size of a step of langevin, 0.1 by default"""
    updates: int | None = Field(None, ge=1)
    """steps of langevin at each noise level, 100 by default"""
    guidance: float = Field(3.0, ge=0, allow_inf_nan=False)
    """scale of classifier-free guidance; 1 for none"""
    negative: str | None = None
    """a prompt to keep away from, instead of the null caption"""
    guided_from: float = Field(0.0, ge=0, allow_inf_nan=False)
    """noise levels up to here are not guided"""
    guided_to: float = Field(math.inf, gt=0)
    """noise levels above this are not guided"""
    rescale: float = Field(0.0, ge=0, le=1)
    """how far guidance gives its contrast back"""
    classifier: str | None = None
    """the run of a classifier of noisy images, whose gradient draws samples towards their labels; null for none"""
    classifier_scale: float = Field(1.0, ge=0, allow_inf_nan=False)
    """scale of the classifier's gradient; 1 for that of Bayes' rule"""
    conditions: tuple[str, ...] = ()
    """image files for a run of a ControlNet to obey, of the size of the samples: one for each row"""
    strength: float = Field(1.0, ge=0, allow_inf_nan=False)
    """how much a run of a ControlNet obeys them"""
    controls: tuple[ControlUse, ...] = ()
    """ControlNets to obey besides"""
    guess: bool = False
    """guess mode: ControlNets act weaker at fine scales, and guidance is away from what does not obey them"""
    start: Literal["noise", "images"] = "noise"
    """noise; or the noise that the images of the examples come from, by DDIM inversion"""
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    """codes: logits are divided by it"""
    top_k: int | None = Field(None, ge=1)
    """codes: only the most likely so many are drawn; null for all"""
    top_p: float = Field(1.0, gt=0, le=1)
    """codes: only the fewest that make up this share of probability are drawn"""
    pixels: tuple[PositiveInt, PositiveInt] | None = None
    """codes: height and width of images larger than those of training; null for their size"""
    per_prompt: int = Field(4, ge=1)
    """images of a row"""
    batch_size: int = Field(64, ge=1)
    """images drawn at a time"""
    seed: int = 0
    """the seed of the noise"""

    @model_validator(mode="after")
    def _guides_somewhere(self) -> "Sampling":
        if self.guided_from >= self.guided_to:
            raise ValueError(f"guided_from below guided_to, {self.guided_to:g}")
        return self
