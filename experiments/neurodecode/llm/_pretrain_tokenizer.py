"""A tokenizer whose tokens are characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
PAD_ID, EOS_ID, BOS_ID, UNKNOWN_ID = range(4)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHARACTERS = f"{_LETTERS} \n:CEGMOT"
LETTER_IDS = tuple(range(len(SPECIAL), len(SPECIAL) + len(_LETTERS)))
VOCABULARY = (*SPECIAL, *CHARACTERS)
MAX_LENGTH = 512
_IDS = {token: number for number, token in enumerate(VOCABULARY)}


def encode(text: str) -> list[int]:
    """Return the tokens of a text of `CHARACTERS`, as the tokenizer would.

    Raises
    ------
    KeyError
        When there is another character in it.
    """
    return [_IDS[character] for character in text]


def character_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of sentences and of the words that a prompt is made of.

    Every character is one token, none is added, and ``decode(encode(text)) == text``; a character
    outside `CHARACTERS` becomes ``<unk>``.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(_IDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    make: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = make(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    return made
