"""Drawing with a trained denoiser: conditioning, guidance, and a start from noise or from inverted images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.encoders import ImageEncoder
from headrace.errors import RecipeError
from headrace.models import Classifier, Conditioning, Context, Control, Controlled, ControlNet, denoiser
from headrace.models.conditions import NO_LABEL, Conditioned
from headrace.models.pixels import from_uint8, to_uint8
from headrace.models.tokens import CaptionTokenizer
from headrace.recipe.objective import Diffusion
from headrace.recipe.training import Sampling
from headrace.samplers import (
    Denoise,
    SampleNoise,
    classifier_free,
    classifier_guided,
    invert_ddim,
    named,
    sample,
    sample_levels,
)
from headrace.systems.image_generator import SampleRequest


@dataclass(frozen=True)
class DenoisingImageGenerator:
    """A denoiser with its tokenizer, its autoencoder and the ControlNets of its own run."""

    recipe: Diffusion
    network: Conditioned
    tokenizer: CaptionTokenizer | None
    shape: tuple[int, int, int]
    """channels, height and width of what is denoised"""
    latents: ImageEncoder | None
    device: torch.device
    load_classifier: Callable[[str], Classifier]
    """loads the classifier of the run at a path"""
    load_control: Callable[[str], ControlNet]
    """loads the ControlNet of the run at a path"""
    own: tuple[ControlNet, ...] = ()
    """ControlNets that are always used, at `sampling.strength`"""
    _loaded: dict[str, nn.Module] = field(default_factory=dict)

    @torch.no_grad()
    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The requested images: uint8 [N, C, H, W].

        Raises RecipeError for conditioning that the network does not take, and if an image has non-finite values.
        """
        self.check(sampling)
        draws = Draws(sampling.seed, torch.arange(request.first, request.first + len(request), device=self.device))
        network, cond, null = self._conditions(request, sampling)
        denoise_cond = denoiser(network, self.recipe).to(self.device)
        interval = (sampling.guided_from, sampling.guided_to)
        scale = sampling.guidance if self._conditioned or self._controls(sampling) else 1.0
        denoise: Denoise = classifier_free(denoise_cond, cond, null, scale, interval=interval, rescale=sampling.rescale)
        if sampling.classifier is not None:
            classifier = self._classifier(sampling.classifier)
            labels_N = self._labels(request, classifier.labels, "sampling.classifier")
            denoise = classifier_guided(denoise, classifier, labels_N, sampling.classifier_scale)
        table = denoise_cond.schedule.sigmas
        noise_NCHW = draws.normal("start", *self.shape)
        if sampling.start == "images":
            sigmas = sample_levels(sampling, table).to(self.device)
            plain: Denoise = lambda x_NCHW, sigma: denoise_cond(x_NCHW, sigma, cond)  # noqa: E731
            noise_NCHW = invert_ddim(plain, self._images(request), sigmas) / sigmas[0].float()
        x_NCHW = sample(sampling, denoise, noise_NCHW, table, generator=SampleNoise(draws))
        if self.latents is not None:
            x_NCHW = self.latents.decode(x_NCHW)
        if not x_NCHW.isfinite().all():
            raise RecipeError("sampling: found images with non-finite values, expected lower sampling.guidance")
        return to_uint8(x_NCHW)

    def check(self, sampling: Sampling) -> None:
        """Raise RecipeError if `sampling` needs conditioning that this network does not take, or lacks an input.

        Loads the classifier and the ControlNets that `sampling` names. Raises DataError if one has no checkpoint.
        """
        named(sampling)
        if self.network.text is None:
            for key, found in (("prompts", sampling.prompts), ("negative", sampling.negative)):
                if found:
                    shown = found if isinstance(found, str) else found[0]
                    expected = "expected none, because the model has no text (name rows by sampling.labels)"
                    raise RecipeError(f"sampling.{key}: found {shown!r}, {expected}")
        if sampling.labels:
            self._check_labels(sampling)
        if sampling.start == "images" and not sampling.examples:
            raise RecipeError("sampling.start: found 'images', expected sampling.examples to take them from")
        if sampling.classifier is not None:
            classifier = self._classifier(sampling.classifier)
            if classifier.image_shape != self.shape:
                found = f"found a classifier of {_shown(classifier.image_shape)}"
                raise RecipeError(f"sampling.classifier: {found}, expected one of {_shown(self.shape)} as is denoised")
            if not sampling.labels and not sampling.examples:
                raise RecipeError("sampling.classifier: found no labels to guide to, expected sampling.labels")
        self._controls(sampling)

    def _check_labels(self, sampling: Sampling) -> None:
        counts = [self.network.labels.labels] if self.network.labels is not None and self._has_labels else []
        if sampling.classifier is not None:
            counts.append(self._classifier(sampling.classifier).labels)
        if not counts:
            expected = "expected none, because the model has no labels and there is no sampling.classifier"
            raise RecipeError(f"sampling.labels: found {list(sampling.labels)}, {expected}")
        for label in sampling.labels:
            if not 0 <= label < min(counts):
                raise RecipeError(f"sampling.labels: found {label}, expected labels from 0 to {min(counts) - 1}")

    @property
    def _has_labels(self) -> bool:
        return self.network.labels is not None and self.network.labels.labels > 0

    @property
    def _conditioned(self) -> bool:
        """Whether the network is conditioned on captions or labels."""
        return self.network.text is not None or self._has_labels

    def _conditions(self, request: SampleRequest, sampling: Sampling) -> tuple[nn.Module, Any, Any]:
        """The network, its conditioning for each sample, and its unconditional counterpart.

        The latter has no label, and no caption or the negative prompt.
        """
        nothing_N = torch.full((len(request),), NO_LABEL, device=self.device)
        label_N = nothing_N
        if self._has_labels and request.labels is not None:
            assert self.network.labels is not None
            label_N = self._labels(request, self.network.labels.labels, "sampling.labels")
        conditioning = self._encoded(request.captions, label_N)
        null = self._encoded([sampling.negative] * len(request), nothing_N)
        controls = self._controls(sampling)
        if not controls:
            return self.network, conditioning, null
        strengths = [*[sampling.strength] * len(self.own), *(use.strength for use in sampling.controls)]
        strengths_NK = torch.tensor([strengths] * len(request), device=self.device)
        control = Control(conditioning, self._pictures(request, len(controls)), strengths_NK)
        without = control._replace(conditioning=null)
        network = Controlled(self.network, controls, sampling.guess).eval()  # type: ignore[arg-type]
        return network, control, without.ignored() if sampling.guess else without

    def _encoded(self, captions: Sequence[str | None], label_N: Tensor) -> Context:
        caption = None if self.tokenizer is None else self.tokenizer.encode(captions)
        if caption is not None:
            caption = type(caption)(*(part.to(self.device) for part in caption))
        return self.network.encode(Conditioning(label_N, caption))

    def _labels(self, request: SampleRequest, count: int, key: str) -> Tensor:
        if request.labels is None:
            raise RecipeError(f"{key}: found no labels to guide to, expected sampling.labels, one for each row")
        wrong = request.labels[(request.labels < 0) | (request.labels >= count)]
        if len(wrong):
            raise RecipeError(f"sampling.labels: found {int(wrong[0])}, expected labels from 0 to {count - 1}")
        return request.labels.to(self.device)

    def _pictures(self, request: SampleRequest, count: int) -> tuple[Tensor, ...]:
        """The condition of each ControlNet, float32 [N, 1, H, W] in [0, 1]."""
        found = 0 if request.conditions is None else request.conditions.shape[1]
        if request.conditions is None or found not in (1, count):
            expected = f"expected one for each of {count} ControlNets: files, or sampling.examples of a dataset"
            raise RecipeError(f"sampling.conditions: found {found}, {expected} with data.condition")
        conditions_NKHW = request.conditions.to(self.device).float() / 255
        return conditions_NKHW.expand(-1, count, -1, -1).split(1, 1)

    def _images(self, request: SampleRequest) -> Tensor:
        if request.images is None:
            raise RecipeError("sampling.start: found 'images', expected sampling.examples to take them from")
        image_NCHW = from_uint8(request.images.to(self.device))
        return image_NCHW if self.latents is None else self.latents.encode(image_NCHW)

    def _classifier(self, run: str) -> Classifier:
        if run not in self._loaded:
            self._loaded[run] = self.load_classifier(run)
        return self._loaded[run]  # type: ignore[return-value]

    def _controls(self, sampling: Sampling) -> list[ControlNet]:
        for use in sampling.controls:
            if use.run not in self._loaded:
                self._loaded[use.run] = self.load_control(use.run)
        return [*self.own, *(self._loaded[use.run] for use in sampling.controls)]  # type: ignore[list-item]


def _shown(shape: tuple[int, int, int]) -> str:
    return "×".join(str(size) for size in shape)
