"""The sections of a training run: `data`, `training`, `sampling`."""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from headrace.recipe.control import ControlUse
from headrace.recipe.section import Section

Bytes = Annotated[int, Field(ge=1, strict=True)]
"""a size in bytes; `true` is not a number"""


class Loading(Section):
    """How batches are loaded: the arguments of `ShardLoader` that a run can choose, under the same names."""

    version: int | None = Field(None, ge=0)
    """the dataset's version; null for the newest when the run starts"""
    where: dict[str, str] = Field(default_factory=dict)
    """values of partition columns; only these partitions are loaded"""
    crop: Literal["none", "centre", "random"] = "centre"
    """images are scaled to cover the run's size and cut at the centre or at random; none stretches them instead"""
    flip: float = Field(0.0, ge=0, le=1)
    """share of samples mirrored left to right"""
    captions: Literal["all", "one_per_image", "weighted"] = "all"
    """every row, or one row of each image in an epoch: in turn, or drawn by `weight`"""
    image_key: str | None = None
    """the column that identifies images; null for the image itself"""
    weight: str | None = None
    """the column of weights, with captions: weighted"""
    on_bad_sample: Literal["fail", "replace"] = "fail"
    """an image that is null or cannot be decoded ends the run, or gives its place to the next good row of its shard"""
    threads: int = Field(2, ge=1)
    """decoding threads of each rank"""
    lanes: int | None = Field(None, ge=1)
    """a global batch draws from lanes × window shards at once; null for 64, or fewer where memory is short"""
    window: int = Field(1, ge=1)
    """how many consecutive shards of a lane are mixed"""
    memory: Bytes = 2 << 30
    """the most bytes that read-ahead and kept images of a rank may take"""
    prefetch: int = Field(2, ge=1)
    """batches made ahead of the one in use"""
    timeout: float = Field(300.0, gt=0)
    """seconds to wait for a batch before the run ends with what each thread is doing"""
    storage_options: dict[str, str] = Field(default_factory=dict, exclude=True)
    """credentials and other options of remote data; never written to the run's folder"""
    cache: str | None = None
    """a local folder for copies of remote shards; several processes may share it"""
    cache_bytes: Bytes = 64 << 30
    """the most bytes of copies to keep there"""


class Data(Loading):
    """What the loader reads."""

    path: str
    """a dataset made by `headrace build`"""
    batch_size: int = Field(64, ge=1)
    """samples of a step, over all ranks"""
    image: str = "image"
    """the column of encoded images"""
    caption: str | None = "caption"
    """the column of captions; null for none"""
    label: str | None = None
    """the column of class labels, whole numbers from 0"""
    condition: str | None = None
    """the column of encoded condition images"""


class NetworkSettings(Section):
    """Settings of one network that differ from those of the others; null for no difference."""

    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False)
    """peak learning rate"""
    weight_decay: float | None = Field(None, ge=0)
    """AdamW's weight decay"""
    beta1: float | None = Field(None, ge=0, lt=1)
    """AdamW's β₁"""
    beta2: float | None = Field(None, ge=0, lt=1)
    """AdamW's β₂"""
    ema: float | None = Field(None, ge=0, lt=1)
    """decay of the averaged weights, per step"""
    ema_width: float | None = Field(None, gt=0, lt=0.28)
    """width of the average, instead of a decay"""


class Training(Section):
    """One run of the trainer."""

    run: str
    """the run folder"""
    steps: int = Field(ge=1)
    """optimizer steps"""
    seed: int = 0
    """the seed of weights, order and noise"""
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    """peak learning rate"""
    warmup: int = Field(100, ge=0)
    """steps until the peak learning rate"""
    decay: Literal["constant", "cosine", "inverse_sqrt"] = "constant"
    """the decay of the learning rate after the warm-up"""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay"""
    beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's β₁"""
    beta2: float = Field(0.999, ge=0, lt=1)
    """AdamW's β₂"""
    clip: float = Field(1.0, gt=0)
    """gradients are clipped to this norm"""
    ema: float = Field(0.999, ge=0, lt=1)
    """decay of the averaged weights, per step"""
    ema_width: float | None = Field(None, gt=0, lt=0.28)
    """width of the average, as a share of the run so far, instead of a decay; null for ema"""
    accumulate: int = Field(1, ge=1)
    """parts into which a rank's batch is split; their gradients are accumulated"""
    networks: dict[str, NetworkSettings] = Field(default_factory=dict)
    """settings of individual networks, by name"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """the type of matrix products: auto is bf16 if the device has it natively, else fp32, and a run keeps the type that
    it started with; with fp16 the loss is scaled"""
    compile: bool = False
    """whether torch.compile compiles each block of the networks"""
    parallel: Literal["ddp", "fsdp", "hsdp"] = "ddp"
    """what ranks share: gradients (ddp), also weights and optimizers (fsdp), or the latter within groups (hsdp)"""
    shard: int | None = Field(None, ge=1)
    """ranks in a group of hsdp; null for those of one machine"""
    activation: Literal["none", "full", "every_k", "sqrt", "selective"] | Bytes = "none"
    """activation checkpointing: a policy or a budget in bytes"""
    segment: int = Field(2, ge=1)
    """blocks in a segment, with activation: every_k"""
    checkpoint_every: int = Field(500, ge=1)
    """steps between run checkpoints"""
    keep: int = Field(2, ge=1)
    """how many of the last checkpoints are kept"""
    keep_best: bool = True
    """whether to keep the checkpoint with the lowest loss too: that of evaluations, or of training without them"""
    max_skipped: int = Field(25, ge=1)
    """consecutive steps with non-finite losses or gradients after which the run ends"""
    sample_every: int | None = Field(None, ge=1)
    """steps between grids of samples; null for none"""
    evaluate_every: int | None = Field(None, ge=1)
    """steps between evaluations of the loss under averaged weights; null for none"""
    evaluate_where: dict[str, str] = Field(default_factory=dict)
    """values of partition columns of the samples to evaluate; empty for those in `data.where`"""
    evaluate_samples: int = Field(256, ge=1)
    """samples in an evaluation"""
    tensorboard: bool = True
    """whether to write figures for TensorBoard too"""


class Sampling(Section):
    """How samples are drawn from a run."""

    prompts: tuple[str, ...] = ()
    """captions, each of which gets a row of images"""
    labels: tuple[int, ...] = ()
    """class labels, each of which gets a row of images; with prompts, one for each prompt"""
    examples: int = Field(0, ge=0)
    """how many of the first samples of the dataset get a row of images, if there are no prompts or labels"""
    sampler: str = "ddim"
    """ddim, ddpm, heun, dpmpp_2m, dpmpp_2m_sde, unipc, langevin or predictor_corrector"""
    steps: int = Field(50, ge=1, le=1000)
    """number of noise levels; each takes one network call, with heun and predictor_corrector two, with langevin 100"""
    spacing: Literal["trailing", "uniform", "quadratic", "karras"] = "trailing"
    """which noise levels of the schedule are used"""
    eta: float | None = Field(None, ge=0, le=1)
    """noise of ddim (0, the default, for none, 1 for that of ddpm) and of dpmpp_2m_sde (1 by default)"""
    variance: Literal["small", "large"] | None = None
    """variance of ddpm: small (β̃, the default) or large (β)"""
    churn: float | None = Field(None, ge=0, allow_inf_nan=False)
    """noise of heun, 0 by default"""
    corrections: int | None = Field(None, ge=0)
    """Langevin steps of predictor_corrector after each of its steps, 1 by default"""
    snr: float | None = Field(None, gt=0)
    """signal-to-noise ratio of the corrections of predictor_corrector, 0.16 by default"""
    rate: float | None = Field(None, gt=0, le=1)
    """size of a step of langevin, 0.1 by default"""
    updates: int | None = Field(None, ge=1)
    """steps of langevin at each noise level, 100 by default"""
    guidance: float = Field(3.0, ge=0, allow_inf_nan=False)
    """scale of classifier-free guidance; 1 for no guidance"""
    negative: str | None = None
    """a negative prompt, in place of the null caption"""
    guided_from: float = Field(0.0, ge=0, allow_inf_nan=False)
    """no guidance at noise levels up to this"""
    guided_to: float = Field(math.inf, gt=0)
    """no guidance at noise levels above this"""
    rescale: float = Field(0.0, ge=0, le=1)
    """how far guided predictions are rescaled to the contrast of unguided ones: 0 not at all, 1 fully"""
    classifier: str | None = None
    """the run folder of a classifier of noisy images, which guides samples to their labels; null for none"""
    classifier_scale: float = Field(1.0, ge=0, allow_inf_nan=False)
    """scale of the classifier's gradient; 1 is Bayes' rule"""
    conditions: tuple[str, ...] = ()
    """condition images for a ControlNet's run: files of the size of the samples, one for each row"""
    strength: float = Field(1.0, ge=0, allow_inf_nan=False)
    """scale of the output of a ControlNet's run: 1 as in training, 0 for none"""
    controls: tuple[ControlUse, ...] = ()
    """further ControlNets"""
    guess: bool = False
    """guess mode: ControlNets are weaker at fine scales, and guidance contrasts with predictions without them"""
    start: Literal["noise", "images"] = "noise"
    """noise, or the noise that DDIM inversion finds for the images of the examples"""
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    """priors: logits are divided by this"""
    top_k: int | None = Field(None, ge=1)
    """priors: only this many of the most likely codes may be drawn; null for all"""
    top_p: float = Field(1.0, gt=0, le=1)
    """priors: only the most likely codes that together have this probability may be drawn"""
    pixels: tuple[PositiveInt, PositiveInt] | None = None
    """priors: height and width of images larger than those of training; null for the same size"""
    per_prompt: int = Field(4, ge=1)
    """images in a row"""
    batch_size: int = Field(64, ge=1)
    """images drawn at a time"""
    seed: int = 0
    """the seed of the noise"""

    @model_validator(mode="after")
    def _check_interval(self) -> "Sampling":
        if self.guided_from >= self.guided_to:
            raise ValueError(f"guided_from below guided_to, {self.guided_to:g}")
        return self
