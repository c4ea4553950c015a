"""Changes of training sentences that keep what was typed.

Array names carry their axes: B batch, C channel, N sentence, T sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodecode.training.sentence_config import EncoderTrainingConfig
from neurodecode.training.sentences import SentenceBatch, SentenceSet

_SHORTEST = 16


@dataclass(frozen=True)
class Course:
    """Say how the time of every sentence runs in one epoch.

    Attributes
    ----------
    start_N
        First row of each sentence that is kept.
    pace_N
        Samples of the recording that one sample covers: below 1, the sentence is slowed.
    length_N
        Samples of each sentence as it is trained on.
    """

    start_N: npt.NDArray[np.int64]
    pace_N: npt.NDArray[np.float64]
    length_N: npt.NDArray[np.int64]


@dataclass(frozen=True)
class SentenceAugment:
    """Change training sentences at random, each by draws of its own.

    Attributes
    ----------
    jitter
        Longest start in samples that is cut off.
    stretch
        Sentences get longer or shorter by this share at most.
    offset_sd, noise_sd
        Standard deviation of one offset for each channel, and of white noise.
    time_mask, time_mask_share
        Longest stretch in samples that is silenced, and as a share of the sentence.
    channel_mask
        Most neighbouring channels that are silenced, half of all at most.

    Notes
    -----
    Brain2Qwerty v2: a start of 0 to 0.4 s, a pace of 0.8 to 1.2, offsets of 0.3, masks of up to
    50 samples (a fifth of the sentence) and 400 channels.
    """

    jitter: int = 0
    stretch: float = 0.0
    offset_sd: float = 0.0
    noise_sd: float = 0.0
    time_mask: int = 0
    time_mask_share: float = 1.0
    channel_mask: int = 0

    @classmethod
    def of(cls, config: EncoderTrainingConfig, sfreq_hz: float) -> SentenceAugment:
        """Return the changes that a configuration asks for."""
        return cls(
            round(config.jitter_s * sfreq_hz),
            config.stretch,
            config.offset_sd,
            config.noise_sd,
            config.time_mask,
            config.time_mask_share,
            config.channel_mask,
        )

    def draw(self, sentences: SentenceSet, generator: torch.Generator) -> Course:
        """Return where every sentence starts and how fast it runs in one epoch."""
        start_N = np.array([span.start for span in sentences.spans], dtype=np.int64)
        whole_N = sentences.lengths()
        drawn_N = np.floor(_uniform(len(whole_N), generator) * (self.jitter + 1)).astype(np.int64)
        cut_N = np.minimum(drawn_N, np.maximum(whole_N - _SHORTEST, 0))
        factor_N = 1 + self.stretch * (2 * _uniform(len(whole_N), generator) - 1)
        kept_N = whole_N - cut_N
        length_N = np.floor((kept_N - 1) * factor_N + 1e-9).astype(np.int64) + 1
        return Course(start_N + cut_N, 1 / factor_N, length_N)

    def batch(
        self,
        sentences: SentenceSet,
        rows_B: npt.NDArray[np.int64],
        course: Course,
        generator: torch.Generator,
        device: torch.device,
    ) -> SentenceBatch:
        """Return changed sentences, padded with zeros to the longest.

        Parameters
        ----------
        sentences
            All training sentences.
        rows_B
            Those of the batch.
        course
            The epoch's.
        generator
            Gives all further draws (on the CPU).
        device
            Where the batch goes.
        """
        x_BTC, inside_BT1 = _sampled(sentences, rows_B, course)
        length_B = torch.from_numpy(course.length_N[rows_B])
        x_BTC, inside_BT1 = x_BTC.to(device), inside_BT1.to(device)
        if self.offset_sd:
            offset_B1C = torch.randn(len(rows_B), 1, x_BTC.shape[2], generator=generator)
            x_BTC = x_BTC + self.offset_sd * offset_B1C.to(device)
        if self.noise_sd:
            noise_BTC = torch.randn(x_BTC.shape, generator=generator).to(device)
            x_BTC = x_BTC + self.noise_sd * noise_BTC
        keep_BT1 = inside_BT1
        if self.time_mask:
            keep_BT1 = inside_BT1 & ~self._silent_time(length_B, generator).to(device)
        if self.channel_mask:
            x_BTC = x_BTC * ~self._silent_channels(x_BTC, generator).to(device)
        subject_B = [sentences.spans[row].subject_index for row in rows_B]
        return SentenceBatch(
            x_BTC.mul_(keep_BT1), length_B.to(device), torch.tensor(subject_B, device=device)
        )

    def _silent_time(self, length_B: Tensor, generator: torch.Generator) -> Tensor:
        longest_B = (length_B * self.time_mask_share).clamp(max=self.time_mask)
        silent_BT = _stretch(int(length_B.max()), longest_B, length_B.to(torch.float32), generator)
        return silent_BT.unsqueeze(2)

    def _silent_channels(self, x_BTC: Tensor, generator: torch.Generator) -> Tensor:
        num_channels = x_BTC.shape[2]
        longest_B = torch.full((len(x_BTC),), float(min(self.channel_mask, num_channels // 2)))
        whole_B = torch.full((len(x_BTC),), float(num_channels))
        return _stretch(num_channels, longest_B, whole_B, generator).unsqueeze(1)


def _uniform(count: int, generator: torch.Generator) -> npt.NDArray[np.float64]:
    drawn_N: npt.NDArray[np.float64] = torch.rand(
        count, generator=generator, dtype=torch.float64
    ).numpy()
    return drawn_N


def _stretch(size: int, longest_B: Tensor, whole_B: Tensor, generator: torch.Generator) -> Tensor:
    """Return (batch, size): whether a place lies in a stretch of 0 to `longest_B` places."""
    draw_2B = torch.rand(2, len(longest_B), generator=generator)
    width_B = (draw_2B[0] * (longest_B + 1)).floor().minimum(longest_B.floor())
    first_B = (draw_2B[1] * (whole_B - width_B + 1)).floor()
    place_S = torch.arange(size)
    end_B = first_B + width_B
    return (place_S >= first_B.unsqueeze(1)) & (place_S < end_B.unsqueeze(1))


def _sampled(
    sentences: SentenceSet, rows_B: npt.NDArray[np.int64], course: Course
) -> tuple[Tensor, Tensor]:
    """Return samples (batch, time, channel) at the course's pace, and which lie inside."""
    length_B = course.length_N[rows_B]
    time_T = np.arange(int(length_B.max()))
    place_BT = time_T * course.pace_N[rows_B, None]
    stop_B = np.array([sentences.spans[row].stop for row in rows_B])
    last_B1 = (stop_B - course.start_N[rows_B] - 1)[:, None]
    before_BT = np.minimum(np.floor(place_BT + 1e-9).astype(np.int64), last_B1)
    share_BT = np.clip(place_BT - before_BT, 0.0, 1.0)
    row_BT = course.start_N[rows_B, None] + before_BT
    x_BTC = _rows(sentences, row_BT)
    if not np.allclose(course.pace_N[rows_B], 1.0):
        after_BTC = _rows(sentences, np.minimum(row_BT + 1, stop_B[:, None] - 1))
        share_BT1 = torch.from_numpy(share_BT.astype(np.float32)).unsqueeze(2)
        x_BTC = torch.lerp(x_BTC, after_BTC, share_BT1)
    return x_BTC, torch.from_numpy(time_T < length_B[:, None]).unsqueeze(2)


def _rows(sentences: SentenceSet, row_BT: npt.NDArray[np.int64]) -> Tensor:
    samples = torch.from_numpy(sentences.x_TC[row_BT.ravel()]).to(torch.float32)
    return samples.view(*row_BT.shape, -1)
