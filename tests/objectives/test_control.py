"""A ControlNet is trained through its base, and the base does not change."""

import torch

from headrace import models, objectives, samplers
from headrace.draws import Draws
from headrace.models import Caption, Control, Controlled, ControlNet
from headrace.recipe.model import UNet
from headrace.recipe.objective import Diffusion
from headrace.recipe.text import Text

TEXT = Text(vocabulary=300, length=4, width=16, layers=1, heads=2)
RECIPE = UNet(resolution=8, patch=1, channels=16, multipliers=(1, 2), blocks=1, attention=(), text=TEXT)
COUNT = 16


def controlled() -> Controlled:
    torch.manual_seed(0)
    base = models.build(RECIPE)
    return Controlled(base, [ControlNet(base)])


def batch() -> dict[str, torch.Tensor]:
    # The image is its condition, white on black, so only a network that reads the condition can predict it.
    condition = (torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    tokens, mask = torch.ones(COUNT, 4, dtype=torch.int64), torch.ones(COUNT, 4, dtype=torch.bool)
    image = (2 * condition - 1).expand(-1, 3, -1, -1)
    return {"image": image, "condition": condition, "tokens": tokens, "tokens_mask": mask}


def test_training_a_control_lowers_the_loss_and_leaves_the_base_alone() -> None:
    model = controlled()
    objective = objectives.ControlDiffusion(Diffusion(prediction="x0", min_snr=None, drop_caption=0.5), model)
    assert dict(objective.networks) == {"control": model.controls}
    (phase,) = objective.phases()
    assert phase.networks == ("control",)
    before = {name: value.clone() for name, value in model.base.state_dict().items()}
    # The base's last layer is zero before training, so it gets weights here that let gradients through.
    torch.nn.init.normal_(model.base.unet.conv_out.weight, std=0.1)
    before["unet.conv_out.weight"] = model.base.unet.conv_out.weight.clone()
    optimizer = torch.optim.Adam(model.controls.parameters(), 3e-3)
    losses = []
    for step in range(60):
        loss, _ = phase.loss(batch(), Draws(0, torch.arange(COUNT) + step * COUNT))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    for name, value in model.base.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_guess_mode_guides_by_the_condition_alone() -> None:
    model = controlled()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    denoise = models.denoiser(model, Diffusion())
    x_NCHW, sigma = torch.randn(COUNT, 3, 8, 8), torch.tensor(1.0)
    caption = Caption(batch()["tokens"], batch()["tokens_mask"])
    control = Control(caption, (batch()["condition"],), torch.ones(COUNT, 1))
    encoded = control._replace(conditioning=model.base.encode(caption))
    guided = samplers.classifier_free(denoise, encoded, encoded.ignored(), 2.0)(x_NCHW, sigma)
    obeying, ignoring = (denoise(x_NCHW, sigma, cond) for cond in (control, control.ignored()))
    assert not torch.allclose(obeying, ignoring, atol=1e-3)
    torch.testing.assert_close(guided, ignoring + 2 * (obeying - ignoring), rtol=1e-3, atol=1e-4)
