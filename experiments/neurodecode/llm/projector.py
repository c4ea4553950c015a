"""From the frames of a word to its vector in the space of a language model.

Array names carry their axes: D feature, F frame, H hidden, N frame of any word, W word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from neurodecode.contracts import FloatArray
from neurodecode.training.checkpoint import write_safetensors
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_json, read_json

_WEIGHTS = "projector.safetensors"
_SIZES = "projector.json"
_FORMAT = 1


@dataclass(frozen=True)
class WordFrames:
    """Hold the frames of words, one after the other.

    Attributes
    ----------
    frame_ND
        Features of every frame.
    word_N
        Number of the word that each belongs to.
    num_words
        Words, some of which may have no frame.
    """

    frame_ND: Tensor
    word_N: Tensor
    num_words: int

    def to(self, device: torch.device) -> WordFrames:
        """Return the same frames on a device."""
        return WordFrames(self.frame_ND.to(device), self.word_N.to(device), self.num_words)


def pack_words(
    sentences: Sequence[tuple[FloatArray, Sequence[tuple[int, int]]]],
) -> WordFrames:
    """Return the frames of all words of sentences.

    Parameters
    ----------
    sentences
        Features (frame, feature) and, for every word, its first frame and the one after its last.
    """
    frames, owners, number = [], [], 0
    for feature_FD, words in sentences:
        for first, end in words:
            frames.append(feature_FD[first:end])
            owners.append(np.full(len(frames[-1]), number))
            number += 1
    frame_ND = torch.from_numpy(np.concatenate(frames).astype(np.float32))
    return WordFrames(frame_ND, torch.from_numpy(np.concatenate(owners)), number)


class Projector(nn.Module):
    """Map the frames of words to vectors: two layers a frame, mean over frames, one layer.

    Parameters
    ----------
    num_features
        Features of a frame.
    width
        Features of the layers.
    num_outputs
        Size of a word vector; there is no last layer when it equals `width`.
    dropout
        Share of features dropped in training.
    noise
        Noise added to frames in training, in standard deviations of each feature.

    Attributes
    ----------
    sizes
        The first three, by name.

    Notes
    -----
    Brain2Qwerty v2: 2 x (linear, layer normalisation, GELU), the mean, an adapter to the language
    model. Noise and dropout are our own: frames of training sentences are cleaner than others.
    """

    mean_D: Tensor
    sd_D: Tensor

    def __init__(
        self,
        num_features: int,
        width: int,
        num_outputs: int,
        dropout: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.sizes = {"num_features": num_features, "width": width, "num_outputs": num_outputs}
        self.noise = noise
        self.register_buffer("mean_D", torch.zeros(num_features))
        self.register_buffer("sd_D", torch.ones(num_features))
        self.frames = nn.Sequential(
            nn.Linear(num_features, width),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.GELU(),
        )
        self.drop = nn.Dropout(dropout)
        self.adapter: nn.Module = (
            nn.Identity() if width == num_outputs else nn.Linear(width, num_outputs)
        )

    @torch.no_grad()
    def standardise(self, frame_ND: Tensor) -> None:
        """Take mean and standard deviation of every feature from frames."""
        self.mean_D.copy_(frame_ND.mean(dim=0))
        self.sd_D.copy_(frame_ND.std(dim=0, correction=0).clamp(min=1e-6))

    def forward(self, words: WordFrames, generator: torch.Generator | None = None) -> Tensor:
        """Return vectors (word, hidden), of any length.

        Parameters
        ----------
        words
            Frames of all words.
        generator
            Draws the noise, in training.
        """
        x_ND = (words.frame_ND - self.mean_D) / self.sd_D
        if self.training and self.noise:
            noise_ND = torch.randn(x_ND.shape, generator=generator).to(x_ND)
            x_ND = x_ND + self.noise * noise_ND
        x_ND = self.frames(x_ND)
        sum_WD = x_ND.new_zeros(words.num_words, x_ND.shape[1]).index_add(0, words.word_N, x_ND)
        count_W = torch.bincount(words.word_N, minlength=words.num_words).clamp(min=1)
        words_WH: Tensor = self.adapter(self.drop(sum_WD / count_W.unsqueeze(1)))
        return words_WH


def save_projector(folder: Path, projector: Projector) -> None:
    """Write weights and sizes of a projector into a folder that exists."""
    write_safetensors(folder / _WEIGHTS, projector)
    atomic_write_json(folder / _SIZES, {"v": _FORMAT, **projector.sizes})


def load_projector(folder: Path) -> Projector:
    """Return a projector in evaluation mode, on the CPU.

    Raises
    ------
    DataError
        When a file is missing, damaged, or does not fit the other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        sizes = dict(read_json(folder / _SIZES))
        if sizes.pop("v", None) != _FORMAT:
            raise ValueError(f"{_SIZES} is not of format {_FORMAT}")
        projector = Projector(**sizes)
        projector.load_state_dict(load_file(folder / _WEIGHTS), strict=True)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, DataError):
            raise
        msg = f"{folder}: holds no projector that can be loaded ({error}); it needs {_WEIGHTS} and"
        raise DataError(f"{msg} {_SIZES} of one preparation") from error
    return projector.eval()
