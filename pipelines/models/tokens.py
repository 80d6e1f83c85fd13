"""Captions as byte-pair tokens."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from pipelines.errors import RecipeError

PAD, BEGIN = "<pad>", "<begin>"


class CaptionTokenizer:
    """Byte-level byte-pair encoding, lower-cased, of a fixed length.

    Every caption starts with the token «begin», so a null caption is the begin token alone and no row is empty.
    """

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        self._tokenizer = tokenizer
        self.length = length
        """the tokens of an encoded caption, padding included"""

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary: int, length: int) -> "CaptionTokenizer":
        """Learn at most `vocabulary` tokens (at least 258: the bytes and two marks) from `captions`."""
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
        """Read what `save` wrote. Raises RecipeError if the file is missing or is no tokenizer of captions."""
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises nothing more precise
            reason = str(error).splitlines()[0] if str(error) else "no tokenizer"
            raise RecipeError(f"{path}: found {reason}, expected a tokenizer saved by a training run") from None
        if tokenizer.padding is None or tokenizer.truncation is None:
            raise RecipeError(f"{path}: found a tokenizer without a fixed length, expected one saved by a training run")
        return cls(tokenizer, tokenizer.truncation["max_length"])

    def save(self, path: str | Path) -> None:
        """Write one JSON file."""
        self._tokenizer.save(str(path))

    @property
    def vocabulary(self) -> int:
        """The number of tokens learnt, marks included."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, captions: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """Tokens (int64 [N, L]) and their mask (bool [N, L], True for a real token); None is the null caption."""
        encoded = self._tokenizer.encode_batch([caption or "" for caption in captions])
        tokens_NL = torch.tensor([one.ids for one in encoded], dtype=torch.int64).view(len(encoded), self.length)
        mask_NL = torch.tensor([one.attention_mask for one in encoded], dtype=torch.bool).view_as(tokens_NL)
        return tokens_NL, mask_NL
