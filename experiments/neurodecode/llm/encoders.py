"""Encoders that a language model is tuned behind: trained once, then kept by fingerprint."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neurodecode.config import MODELS, LlmRecipe
from neurodecode.contracts import SentenceFacts
from neurodecode.llm.fingerprint import fingerprint_files
from neurodecode.training.checkpoint import DESCRIPTION, WEIGHTS, load_encoder, save_encoder
from neurodecode.training.encoder_fit import Encoded, encode, fit_encoder
from neurodecode.training.evaluate import pick_device
from neurodecode.training.sentences import SentenceSet
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.files import atomic_write_json, read_json, sha256_file
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.plugins import load_plugin

Say = Callable[[str], None]

_FORMAT = 1
_FIT = "fit.json"
_SAY_EVERY_S = 10.0
_PACKAGE = Path(__file__).parents[1]
_CODE = ("layers/*.py", "training/*.py", "losses/ctc.py", "decoding/alphabet.py", "decoding/ctc.py")


@dataclass(frozen=True)
class Encoder:
    """Hold a trained encoder.

    Attributes
    ----------
    folder
        Where its checkpoint lies.
    model
        In evaluation mode, on its device.
    sha
        Fingerprint of the checkpoint.
    fit
        How its training went; empty when it was trained elsewhere.
    """

    folder: Path
    model: nn.Module
    sha: str
    fit: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(one.numel() for one in self.model.parameters())

    def read(self, sentences: SentenceSet) -> list[Encoded]:
        """Return what the encoder says about sentences."""
        return encode(self.model, sentences, next(self.model.parameters()).device)


@dataclass(frozen=True)
class EncoderTraining:
    """Name everything that a training of an encoder depends on.

    Attributes
    ----------
    config
        Configuration.
    data_fp
        Fingerprint of the sentences.
    facts
        What the encoder must know of them.
    fold
        (number of the fold that is held out, number of folds); None for all training sentences.
    """

    config: LlmRecipe
    data_fp: str
    facts: SentenceFacts
    fold: tuple[int, int] | None = None

    @property
    def seed(self) -> int:
        """Seed; that of an encoder job's first fold where nothing is held out."""
        words = [self.config.encoder.seed, 0, *([self.fold[0] + 1] if self.fold else [])]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def train(self, train: SentenceSet, dev: SentenceSet, folder: Path, say: Say) -> None:
        """Train the encoder and write its checkpoint into a folder."""
        config = self.config
        torch.manual_seed(self.seed)
        family = load_plugin(MODELS, config.model.family, needs=("Config", "build"))
        model: nn.Module = family.build(config.model, self.facts)
        model.to(pick_device(config.training.device))
        count = sum(one.numel() for one in model.parameters())
        say(f"{self.name}: training {count:,} weights on {len(train)} sentences, dev {len(dev)}")
        began = time.monotonic()
        log = _Progress(self.name, config.training.epochs, say)
        result = fit_encoder(model, train, dev, config.training, seed=self.seed, log=log)
        seconds = round(time.monotonic() - began, 1)
        say(
            f"{self.name}: best dev CER {_rate(result.dev_cer)} in epoch {result.best_epoch} of "
            f"{result.epochs}, {seconds:.0f} s"
        )
        save_encoder(folder, model, config.model, self.facts)
        fit = asdict(result) | {"seconds": seconds}
        atomic_write_json(folder / _FIT, {"v": _FORMAT, **fit})

    @property
    def name(self) -> str:
        """What people are told that is trained."""
        return f"encoder without fold {self.fold[0] + 1}" if self.fold else "encoder"


def training_fingerprint(
    config: LlmRecipe, data_fp: str, fold: tuple[int, int] | None = None
) -> str:
    """Return the name of a training: equal outcome, equal name.

    Parameters
    ----------
    config, data_fp, fold
        See `EncoderTraining`; what the encoder must know of the data follows from the data.
    """
    return fingerprint(
        {
            "format": _FORMAT,
            "data_fp": data_fp,
            "model": config.model.model_dump(mode="json"),
            "training": config.training.model_dump(mode="json"),
            "seed": config.encoder.seed,
            "fold": list(fold) if fold else None,
            "code": code_of((*_CODE, f"models/{config.model.family}/**/*.py")),
            "packages": {name: metadata.version(name) for name in ("numpy", "torch")},
        }
    )


def trained_encoder(
    training: EncoderTraining, train: SentenceSet, dev: SentenceSet, cache: Path, say: Say
) -> Encoder:
    """Return an encoder from the cache, after training it where it is not there.

    Parameters
    ----------
    training
        What it depends on.
    train, dev
        Sentences with typed texts.
    cache
        Folder of all encoders.
    say
        Tells progress.

    Raises
    ------
    neurosweep.exec.job_api.Diverged
        When its loss is not finite.
    OSError
        When the cache cannot be written; nothing is left behind.
    """
    name = training_fingerprint(training.config, training.data_fp, training.fold)
    folder = cache / name
    if found := _cached(folder, training):
        say(f"{training.name}: kept from an earlier preparation")
        return found
    temporary = cache / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        temporary.mkdir(parents=True)
        training.train(train, dev, temporary, say)
        if _cached(folder, training) is None:
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    # What is used is what was written, so that the next preparation finds the same.
    encoder = _cached(folder, training)
    if encoder is None:
        msg = f"{folder}: the encoder cannot be read back; remove the folder and prepare again"
        raise DataError(msg)
    return encoder


def given_encoder(folder: Path, facts: SentenceFacts, device: str) -> Encoder:
    """Return the encoder that a job saved, when it was built for these data.

    Raises
    ------
    ConfigError
        When there is none, or it was built for other data.
    """
    sha = checkpoint_sha(folder)
    try:
        model, own = load_encoder(folder)
    except DataError as error:
        msg = f"encoder.checkpoint: {error}"
        raise ConfigError(msg) from error
    here, there = asdict(facts), asdict(own)
    other = [name for name in here if here[name] != there[name]]
    if other:
        listed = "; ".join(f"{n}: {_short(there[n])}, here {_short(here[n])}" for n in other)
        msg = f"encoder.checkpoint: {folder} was trained for other data ({listed}); name one that"
        raise ConfigError(f"{msg} a job saved on these data, or leave it empty to train one")
    return Encoder(folder, model.to(pick_device(device)), sha, {})


def checkpoint_sha(folder: Path) -> str:
    """Return the fingerprint of a checkpoint.

    Raises
    ------
    ConfigError
        When a file of it is missing.
    """
    files = [folder / WEIGHTS, folder / DESCRIPTION]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        msg = f"encoder.checkpoint: {folder} has no {' and no '.join(missing)}; name the folder"
        raise ConfigError(f"{msg} ckpt/encoder of an encoder job's attempt")
    return fingerprint_files(files)


def code_of(patterns: Iterable[str]) -> dict[str, str]:
    """Return file to SHA-256 of the package's files that match any of the patterns."""
    files = sorted({path for pattern in patterns for path in _PACKAGE.glob(pattern)})
    return {path.relative_to(_PACKAGE).as_posix(): sha256_file(path) for path in files}


def _cached(folder: Path, training: EncoderTraining) -> Encoder | None:
    """Return the encoder of a folder; None when it is not there or damaged, so not usable."""
    try:
        fit = dict(read_json(folder / _FIT))
        model, facts = load_encoder(folder)
    except DataError:
        return None
    if facts != training.facts or fit.pop("v", None) != _FORMAT:
        return None
    model.to(pick_device(training.config.training.device))
    sha = fingerprint_files([folder / WEIGHTS, folder / DESCRIPTION])
    return Encoder(folder, model, sha, fit)


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Progress:
    """Tell of epochs, but not of all of them."""

    def __init__(self, name: str, epochs: int, say: Say) -> None:
        self.name, self.epochs, self.say = name, epochs, say
        self.told = time.monotonic()

    def __call__(self, step: int, epoch: int, **metrics: float) -> None:
        now = time.monotonic()
        if now - self.told >= _SAY_EVERY_S:
            self.told = now
            loss, cer = metrics.get("loss", float("nan")), _rate(metrics.get("dev_cer"))
            where = f"epoch {epoch} of at most {self.epochs}, step {step}"
            self.say(f"{self.name}: {where}: loss {loss:.3f}, dev CER {cer}")
