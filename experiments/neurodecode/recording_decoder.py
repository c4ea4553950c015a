"""Read the sentences of a recording with what a finished trial trained.

The recording need not be one of the study's: only its sensors and its subject must be known to
the encoder. Sentences are where an events table says, or the whole of a short recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurodecode.config import EncoderRecipe, LlmRecipe, RecipeConfig, read_config
from neurodecode.contracts import Recording, SentenceFacts
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.datasets._sentences.reader import read_recording
from neurodecode.events import RECORDING_TYPES, Event, read_events, select
from neurodecode.preprocessing.pipeline import Prepared, preprocess
from neurosweep.core.errors import ConfigError, DataError

_LONGEST_S = 60.0
_PRE_S = 0.4
_POST_S = 0.45
_TABLES = ("events.tsv", "events.csv")


@dataclass(frozen=True)
class Stretch:
    """Name a sentence of a recording.

    Attributes
    ----------
    start_s, stop_s
        Seconds from the first sample.
    reference
        What was to be typed, where the table says it.
    """

    start_s: float
    stop_s: float
    reference: str | None = None


def decode_recording(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Read the sentences of one recording.

    Parameters
    ----------
    payload
        ``recording`` (path), ``events`` (path or null), ``beam`` (number or null) and ``run``:
        ``config``, ``ckpt`` (folder of the trial's checkpoints), ``stores``.

    Returns
    -------
    dict
        ``sentences``: start_s, stop_s, hypothesis, logp, and where known greedy and reference;
        ``lines``: the same for people.

    Raises
    ------
    ConfigError
        When the trial trained nothing that reads sentences.
    DataError
        When the recording or its table cannot be read, or its sensors or subject are unknown.
    """
    run = payload["run"]
    config = read_config(run["config"], "run.json config")
    if not isinstance(config, EncoderRecipe | LlmRecipe):
        msg = "this trial decodes windows of known onset, not recordings; choose a trial of a"
        raise ConfigError(f"{msg} recipe of sentences")
    path = Path(payload["recording"])
    row, stretches = _sentences_of(path, payload.get("events"))
    recording = read_recording(path, row, SentenceReadOptions())
    stretches = stretches or _whole(recording)
    beam = payload.get("beam")
    decoded = _decode(recording, stretches, config, run, None if beam is None else int(beam))
    return {"sentences": decoded, "lines": [_line(sentence) for sentence in decoded]}


def _sentences_of(path: Path, table: str | None) -> tuple[Event | None, list[Stretch]]:
    """Return the row of a recording and its sentences; neither without an events table."""
    if table is not None:
        return _read_table(Path(table), path, required=True)
    for name in _TABLES:
        if (path.parent / name).is_file():
            row, stretches = _read_table(path.parent / name, path, required=False)
            if row is not None:
                return row, stretches
    return None, []


def _read_table(table: Path, path: Path, *, required: bool) -> tuple[Event | None, list[Stretch]]:
    events = read_events(table)
    for row in (event for event in events if event.type in RECORDING_TYPES):
        if (table.parent / row.filepath).resolve() == path.resolve():
            own = [event for event in events if event.timeline == row.timeline]
            stretches = [_stretch(s, own, row.start) for s in select(own, "Sentence")]
            if not stretches:
                msg = f"events table {table}: has no row of type Sentence for {path.name}; add one"
                raise DataError(f"{msg} with start and duration for every sentence to read")
            return row, stretches
    if required:
        msg = f"events table {table}: has no row of type Meg whose filepath is {path}"
        raise DataError(f"{msg}; add it, or give the table of this recording")
    return None, []


def _stretch(sentence: Event, own: Sequence[Event], zero: float) -> Stretch:
    keys = [k.start for k in select(own, "Keystroke") if k.trial_id == sentence.trial_id]
    first = min(keys, default=sentence.start) - zero
    last = max(keys, default=sentence.start + sentence.duration) - zero
    return Stretch(first - _PRE_S, last + _POST_S, sentence.text or None)


def _whole(recording: Recording) -> list[Stretch]:
    if recording.duration_s > _LONGEST_S:
        msg = f"{recording.name}: lasts {recording.duration_s:.0f} s and no events table says where"
        msg += f" its sentences are; give one with --events, or cut it to {_LONGEST_S:g} s or less"
        raise DataError(f"{msg}, which is read as one sentence")
    return [Stretch(0.0, recording.duration_s)]


def _decode(
    recording: Recording,
    stretches: Sequence[Stretch],
    config: EncoderRecipe | LlmRecipe,
    run: Mapping[str, Any],
    beam: int | None,
) -> list[dict[str, Any]]:
    from neurodecode.training.checkpoint import load_encoder
    from neurodecode.training.encoder_fit import encode
    from neurodecode.training.evaluate import pick_device

    ckpt = Path(run["ckpt"])
    store = Path(run["stores"][0])
    folder = store / "encoder" if isinstance(config, LlmRecipe) else ckpt / "encoder"
    model, facts = load_encoder(folder)
    device = pick_device(config.training.device)
    sentences = _cut(recording, stretches, config, facts)
    encoded = encode(model.to(device), sentences, device)
    if isinstance(config, EncoderRecipe):
        from neurodecode.jobs.encoder import prediction

        decoding = config.decoding.model_copy(update={} if beam is None else {"beam": beam})
        texts = [prediction(one, decoding) for one in encoded]
        found = [{"hypothesis": t["hypothesis"], "logp": t["logp"]} for t in texts]
    else:
        from neurodecode.llm.reading import read_sentences_with

        found = read_sentences_with(config, encoded, store, ckpt / "adapter", beam)
    return [
        {
            "start_s": round(max(0.0, stretch.start_s), 3),
            "stop_s": round(min(recording.duration_s, stretch.stop_s), 3),
            **one,
            **({} if stretch.reference is None else {"reference": stretch.reference}),
        }
        for stretch, one in zip(stretches, found, strict=True)
    ]


def _cut(
    recording: Recording,
    stretches: Sequence[Stretch],
    config: RecipeConfig,
    facts: SentenceFacts,
) -> Any:
    from neurodecode.training.sentences import SentenceSet, SentenceSpan

    if len(recording.channels) != facts.num_channels:
        msg = f"{recording.name}: has {len(recording.channels)} sensors, the encoder was trained"
        raise DataError(f"{msg} on {facts.num_channels}; decode a recording of the same system")
    if recording.subject not in facts.subjects and facts.num_subjects > 1:
        msg = f"{recording.name}: subject '{recording.subject}' is unknown to the encoder; known"
        raise DataError(f"{msg} are {', '.join(facts.subjects)}: name one in the events table")
    known = recording.subject in facts.subjects
    subject = facts.subjects.index(recording.subject) if known else 0
    prepared = preprocess(recording, config.preprocessing)
    if abs(prepared.sfreq_hz - facts.sfreq_hz) > 1e-3 * facts.sfreq_hz:
        msg = f"{recording.name}: is at {prepared.sfreq_hz:g} Hz after preprocessing, the encoder"
        raise DataError(f"{msg} reads {facts.sfreq_hz:g} Hz; record at that rate or above")
    samples = [_samples(prepared, stretch, recording.name) for stretch in stretches]
    edges = np.concatenate([[0], np.cumsum([len(x_TC) for x_TC in samples])])
    spans = tuple(
        SentenceSpan(f"{recording.name}/{number:04d}", int(edges[number]), int(stop), subject)
        for number, stop in enumerate(edges[1:])
    )
    return SentenceSet(np.concatenate(samples), spans, facts.sfreq_hz)


def _samples(prepared: Prepared, stretch: Stretch, name: str) -> np.ndarray[Any, Any]:
    total = prepared.data_CT.shape[1]
    first = max(0, round(stretch.start_s * prepared.sfreq_hz))
    stop = min(total, round(stretch.stop_s * prepared.sfreq_hz))
    if stop - first < 2:
        msg = f"{name}: the sentence from {stretch.start_s:g} to {stretch.stop_s:g} s lies outside"
        raise DataError(f"{msg} the recording (0 to {total / prepared.sfreq_hz:g} s)")
    return np.ascontiguousarray(prepared.data_CT[:, first:stop].T, dtype=np.float16)


def _line(sentence: Mapping[str, Any]) -> str:
    return f"{sentence['start_s']:9.2f} s  {sentence['hypothesis']}"
