"""Captions as byte-pair tokens."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from headrace.errors import RecipeError
from headrace.files import atomic
from headrace.models.text import Caption

PAD, BEGIN = "<pad>", "<begin>"


class CaptionTokenizer:
    """Captions as a fixed number of tokens. Unless it is pretrained, lower-cased byte-level byte-pair encoding.

    Every caption starts with the same token. A null caption is that token alone, so no row is empty.
    """

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        self._tokenizer = tokenizer
        self.length = length
        """the number of tokens of an encoded caption, padding included"""

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary: int, length: int) -> "CaptionTokenizer":
        """Learn at most `vocabulary` tokens (at least 258: the bytes and two special tokens) from `captions`."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, BEGIN],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(captions, trainer)
        begin = tokenizer.token_to_id(BEGIN)
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, begin)])
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id(PAD), pad_token=PAD)
        return cls(tokenizer, length)

    @classmethod
    def load(cls, path: str | Path) -> "CaptionTokenizer":
        """Read what `save` wrote. Raises RecipeError if the file is missing or is not a caption tokenizer."""
        tokenizer = _from_file(path)
        if tokenizer.padding is None or tokenizer.truncation is None:
            raise RecipeError(f"{path}: found a tokenizer without a fixed length, expected one saved by a training run")
        return cls(tokenizer, tokenizer.truncation["max_length"])

    @classmethod
    def pretrained(cls, path: str | Path, length: int) -> "CaptionTokenizer":
        """The tokenizer of a pretrained encoder (`tokenizer.json`), cut and padded to `length` tokens.

        Raises RecipeError if the file is missing or is not a tokenizer.
        """
        tokenizer = _from_file(path)
        pad_id, pad_token = 0, PAD
        if tokenizer.padding is not None:
            pad_id, pad_token = tokenizer.padding["pad_id"], tokenizer.padding["pad_token"]
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length, pad_id=pad_id, pad_token=pad_token)
        return cls(tokenizer, length)

    def save(self, path: str | Path) -> None:
        """Write one JSON file, whole or not at all."""
        with atomic(Path(path)) as hidden:
            self._tokenizer.save(str(hidden))

    @property
    def vocabulary(self) -> int:
        """The number of tokens learnt, special tokens included."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, captions: Sequence[str | None]) -> Caption:
        """Tokens (int64 [N, L]) and their mask (bool [N, L], True for a real token). None is the null caption."""
        encoded = self._tokenizer.encode_batch([caption or "" for caption in captions])
        tokens_NL = torch.tensor([one.ids for one in encoded], dtype=torch.int64).view(len(encoded), self.length)
        mask_NL = torch.tensor([one.attention_mask for one in encoded], dtype=torch.bool).view_as(tokens_NL)
        null_N = torch.tensor([not caption for caption in captions], dtype=torch.bool)
        return Caption(tokens_NL, mask_NL).dropped(null_N)


def _from_file(path: str | Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises nothing more precise
        reason = str(error).splitlines()[0] if str(error) else "no tokenizer"
        raise RecipeError(f"{path}: found {reason}, expected a tokenizer saved by a training run") from None
