"""Changes of training windows that keep their class.

Array names carry their axes: B batch, C channel, T sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurodecode.training.config import TrainingConfig


@dataclass(frozen=True)
class Augment:
    """Change a batch of training windows at random.

    Attributes
    ----------
    noise_sd, offset_sd
        Standard deviation of white noise, and of one offset for each channel.
    max_shift
        Largest shift in samples; what is shifted in from outside is 0.
    channel_drop
        Probability of silencing a channel of a window.
    """

    noise_sd: float = 0.0
    offset_sd: float = 0.0
    max_shift: int = 0
    channel_drop: float = 0.0

    @classmethod
    def of(cls, config: TrainingConfig, sfreq_hz: float) -> Augment:
        """Return the changes that a configuration asks for."""
        shift = round(config.shift_s * sfreq_hz)
        return cls(config.noise_sd, config.offset_sd, shift, config.channel_drop)

    def __call__(self, x_BCT: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed windows of the same shape; draws come from `generator` (on the CPU)."""
        if self.max_shift:
            x_BCT = _shift(x_BCT, self.max_shift, generator)
        if self.offset_sd:
            offset_BC1 = torch.randn(*x_BCT.shape[:2], 1, generator=generator)
            x_BCT = x_BCT + self.offset_sd * offset_BC1.to(x_BCT)
        if self.noise_sd:
            x_BCT = x_BCT + self.noise_sd * torch.randn(x_BCT.shape, generator=generator).to(x_BCT)
        if self.channel_drop:
            keep_BC1 = torch.rand(*x_BCT.shape[:2], 1, generator=generator) >= self.channel_drop
            x_BCT = x_BCT * keep_BC1.to(x_BCT)
        return x_BCT


def _shift(x_BCT: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    num_samples = x_BCT.shape[-1]
    shift_B = torch.randint(-max_shift, max_shift + 1, (len(x_BCT),), generator=generator)
    source_BT = torch.arange(num_samples) - shift_B.unsqueeze(1)
    inside_BT = (source_BT >= 0) & (source_BT < num_samples)
    index_B1T = source_BT.clamp(0, num_samples - 1).unsqueeze(1).to(x_BCT.device)
    shifted_BCT = x_BCT.gather(2, index_B1T.expand(-1, x_BCT.shape[1], -1))
    return shifted_BCT * inside_BT.unsqueeze(1).to(x_BCT)
