"""From stores of sentences to stores of features: what a frozen encoder reads, computed once.

``store/<fp>/`` is described in `neurodecode.llm.feature_store`; ``encoder/`` in it is the
checkpoint, ``projector.safetensors`` what makes vectors of its frames. ``secret/<fp>/`` holds the
references, which are copied unread, and ``test/``, the store of a confirmation. Trained encoders
are kept under ``cache/encoders/``.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from neurodecode.config import LlmRecipe
from neurodecode.llm.backend import Backend, check_backend, load_backend
from neurodecode.llm.encoder_sources import OwnEncoders
from neurodecode.llm.encoders import Say, checkpoint_sha, code_of, training_fingerprint
from neurodecode.llm.feature_store import FORMAT, KIND, LABELLED, write_errors, write_part
from neurodecode.llm.projector import save_projector
from neurodecode.llm.reading_parts import Features, make_features, num_folds
from neurodecode.store_writer import SECRET_FILE, make_private, staged
from neurodecode.training.checkpoint import DESCRIPTION, WEIGHTS
from neurodecode.training.evaluate import without_denormals
from neurodecode.training.sentences import sentence_facts
from neurodecode.training.windows import read_meta
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.files import (
    atomic_write_bytes,
    atomic_write_json,
    read_bytes_capped,
    read_json,
)
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.layout import Home
from neurosweep.exec.job_api import Diverged

_CODE = (
    *("llm/alignment.py", "llm/backend.py", "llm/word_vectors.py", "llm/encoders.py"),
    "llm/encoder_sources.py",
    *("llm/confusion.py", "llm/confusion_counts.py", "llm/dtw.py", "llm/residuals.py"),
    *("llm/features.py", "llm/feature_store.py", "llm/projector.py", "llm/projector_fit.py"),
    *("llm/prepare.py", "llm/reading_parts.py", "losses/siglip.py", "training/schedule.py"),
    *("training/encoder_fit.py", "training/steps.py", "decoding/ctc.py", "decoding/alphabet.py"),
    *("training/checkpoint.py", "training/sentences.py", "layers/*.py", "models/**/*.py"),
)
_PACKAGES = ("jiwer", "numpy", "rapidfuzz", "torch", "transformers")


def prepare_features(
    config: LlmRecipe, sentences: Mapping[str, Any], home: Home, say: Say
) -> dict[str, Any]:
    """Make the store of features of a recipe, unless it exists, and say where it lies.

    The encoder is trained unless the recipe names one. With ``encoder.cross_fit`` folds, training
    sentences are read by encoders that were trained without them.

    Parameters
    ----------
    config
        Configuration of the language-model stage.
    sentences
        What `neurodecode.stores.prepare_store` returned for its sentences.
    home
        Where stores, references and caches lie.
    say
        Tells progress, a line at a time.

    Returns
    -------
    dict
        As `neurodecode.stores.prepare_store`, with ``encoder`` and ``projector``: what they reach
        on dev.

    Raises
    ------
    ConfigError
        When the encoder that is named does not fit, training leaves the numbers, or the data have
        folds.
    DataError
        When a store is damaged, or the home cannot be written; nothing is left behind.
    """
    if len(sentences["stores"]) != 1:
        msg = f"data.folds: are {len(sentences['stores'])}; the language-model stage needs 1"
        raise ConfigError(msg)
    backend = load_backend(config.llm)
    feat_fp = fingerprint(_inputs(config, backend, str(sentences["data_fp"])))
    done = home.store(feat_fp) / "prepared.json"
    if done.is_file() and home.secret(feat_fp).is_dir():
        return _warned(config, read_json(done))
    try:
        with without_denormals():
            made = make_features(config, *_sources(config, sentences, home, say), say, backend)
            result = _result(sentences, feat_fp, made, made.summary())
            _write(
                home,
                feat_fp,
                sentences,
                made,
                result,
                features_meta(sentences, feat_fp, backend, made),
            )
            return _warned(config, result)
    except Diverged as error:
        msg = f"the encoder or its projector cannot be trained: {error}"
        raise ConfigError(msg) from error
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)
        msg = f"{home.root}: features cannot be prepared ({what}); free space, or name another home"
        raise DataError(msg) from error


def _sources(
    config: LlmRecipe, sentences: Mapping[str, Any], home: Home, say: Say
) -> tuple[tuple[Path, Path | None], OwnEncoders]:
    """Return where the sentences lie, and where encoders come from."""
    store = home.root / str(sentences["stores"][0])
    sealed = home.root / str(sentences["final"]) if sentences["final"] else None
    facts = sentence_facts(read_meta(store))
    cache = home.cache_dir / "encoders"
    return (store, sealed), OwnEncoders(config, str(sentences["data_fp"]), facts, cache, say)


def check_named(config: LlmRecipe) -> None:
    """Refuse a recipe whose encoder or language model is not there, before anything is computed.

    Raises
    ------
    ConfigError, DataError, MissingPackageError
        When a file or a package of either is missing.
    """
    if config.encoder.checkpoint:
        checkpoint_sha(Path(config.encoder.checkpoint).expanduser())
    check_backend(config.llm)


def _warned(config: LlmRecipe, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result with the warnings that do not depend on the features alone."""
    found = []
    if config.llm.noise == "none" and not num_folds(config):
        msg = "llm.noise is 'none' and encoder.cross_fit below 2: the language model is tuned on"
        msg += " what the encoder reads of its own training sentences, which is far better than"
        found.append(f"{msg} what it reads of new ones; set encoder.cross_fit = 5")
    return {**result, "warnings": [*result["warnings"], *found]}


def _inputs(config: LlmRecipe, backend: Backend, data_fp: str) -> dict[str, Any]:
    """Return everything that features depend on, as JSON data."""
    encoder: dict[str, Any] = {"cross_fit": num_folds(config)}
    if config.encoder.checkpoint:
        encoder["checkpoint"] = checkpoint_sha(Path(config.encoder.checkpoint).expanduser())
    if not config.encoder.checkpoint or num_folds(config):
        encoder["training"] = training_fingerprint(config, data_fp)
    return {
        "format": FORMAT,
        "data_fp": data_fp,
        "encoder": encoder,
        "projector": config.projector.model_dump(mode="json"),
        "backend": [backend.name, backend.sha],
        "code": code_of(_CODE),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def _write(
    home: Home,
    feat_fp: str,
    sentences: Mapping[str, Any],
    made: Features,
    result: Mapping[str, Any],
    meta: Mapping[str, Any],
) -> None:
    sealed = home.root / str(sentences["secret"])
    with staged(home, feat_fp) as (store, secret):
        write_features(store, made, meta)
        (store / "encoder").mkdir()
        for name in (WEIGHTS, DESCRIPTION):
            shutil.copyfile(made.reader.encoder.folder / name, store / "encoder" / name)
        atomic_write_json(store / "prepared.json", result)
        _copy_references(sealed, secret, "val_refs.jsonl")
        if result["final"]:
            _copy_references(sealed, secret, "test_refs.jsonl")
            write_part(secret / "test" / "test", made.parts["test"], labelled=False)
            _write_facts(secret / "test", made, meta)
            for part in LABELLED:
                (secret / "test" / part).symlink_to(f"../../../store/{feat_fp}/{part}")
        make_private(secret)


def write_features(store: Path, made: Features, meta: Mapping[str, Any]) -> None:
    """Write what jobs may read of features: train, dev and val, errors on dev, and projector."""
    for part in ("train", "dev", "val"):
        write_part(store / part, made.parts[part], labelled=part in LABELLED)
    _write_facts(store, made, meta)
    save_projector(store, made.reader.projector)


def _write_facts(folder: Path, made: Features, meta: Mapping[str, Any]) -> None:
    atomic_write_json(folder / "meta.json", meta)
    write_errors(folder, made.confusions, made.residuals)


def _copy_references(source: Path, target: Path, name: str) -> None:
    atomic_write_bytes(target / name, read_bytes_capped(source / name), SECRET_FILE)


def features_meta(
    sentences: Mapping[str, Any], feat_fp: str, backend: Backend, made: Features
) -> dict[str, Any]:
    """Return ``meta.json`` of features.

    Parameters
    ----------
    sentences
        ``data_fp``, ``split``, ``chance`` and ``subjects`` of the sentences.
    feat_fp
        Fingerprint of the features.
    backend
        Language model that they are made for.
    made
        The features.
    """
    far_R = 2.0 - 2.0 * made.residuals.cosine_R
    return {
        "v": FORMAT,
        "data_fp": feat_fp,
        "kind": KIND,
        "sentences_fp": sentences["data_fp"],
        "backend": backend.name,
        "backend_sha": backend.sha,
        "hidden": backend.hidden,
        "scale": backend.scale,
        "encoder_sha": made.reader.encoder.sha,
        "cross_fit": made.num_folds,
        "residual_scale": float(np.sqrt(far_R.clip(min=0)).mean()) if len(far_R) else 0.0,
        **{name: sentences[name] for name in ("split", "chance", "subjects")},
    }


def _result(
    sentences: Mapping[str, Any], feat_fp: str, made: Features, summary: Mapping[str, Any]
) -> dict[str, Any]:
    words = {name: sum(len(one.words_WH) for one in part) for name, part in made.parts.items()}
    return {
        **sentences,
        "data_fp": feat_fp,
        "stores": [f"store/{feat_fp}"],
        "secret": f"secret/{feat_fp}",
        "final": f"secret/{feat_fp}/test" if made.parts.get("test") else None,
        "parts": {
            name: {**size, "words": words.get(name, 0)} for name, size in sentences["parts"].items()
        },
        "warnings": [*sentences["warnings"], *made.warnings],
        "sentences_fp": sentences["data_fp"],
        **summary,
    }
