"""Read the sentences of a recording with what a finished trial trained.

The recording need not be one of the study's: only its sensors and its subject must be known to
the encoder. Sentences are where an events table says, or the whole of a short recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurodecode.config import EncoderRecipe, LlmRecipe, read_config
from neurodecode.contracts import Recording, SentenceFacts, SentenceItem
from neurodecode.datasets._sentences.flat_map import NO_PLACE
from neurodecode.datasets._sentences.items import sentence_items
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.datasets._sentences.plan import path_of
from neurodecode.datasets._sentences.reader import read_recording, read_recording_of
from neurodecode.events import RECORDING_TYPES, Event, read_events, select
from neurodecode.preprocessing.pipeline import preprocess
from neurodecode.sentence_store import cut_sentence
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.evaluation.splits import part_of_text

_LONGEST_S = 60.0
_MOVED = 0.02
_TABLES = ("events.tsv", "events.csv")


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
        ``sealed``: how many were left out; ``lines``: warnings for people.

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
    table = payload.get("events")
    recording, items = _sentences_of(path, None if table is None else Path(table), config)
    beam = payload.get("beam")
    shown = [item for item in items if not _is_sealed(item)]
    lines = [f"warning: {text}" for text in recording.meta.get("warnings", ())]
    if sealed := len(items) - len(shown):
        lines.append(
            f"{sealed} sentences belong to the sealed test by their text and are left out;"
            " neurosweep study confirm opens it"
        )
    decoded = []
    if shown:
        decoded = _decode(recording, shown, config, run, None if beam is None else int(beam))
    return {"sentences": decoded, "sealed": sealed, "lines": lines}


def _is_sealed(item: SentenceItem) -> bool:
    """Return whether a sentence of known text is one that only a confirmation may read."""
    return bool(item.reference) and part_of_text(item.reference) == "test"


def _sentences_of(
    path: Path, table: Path | None, config: EncoderRecipe | LlmRecipe
) -> tuple[Recording, Sequence[SentenceItem]]:
    """Return a recording and its sentences, read and cut as the trial's own were."""
    options, window = _options(config)
    if table is None:
        beside = (path.parent / name for name in _TABLES)
        table = next((t for t in beside if t.is_file() and _rows_of(t, path, options)), None)
    if table is None:
        recording = read_recording(path, None, options)
        return recording, [_whole(recording)]
    own = _rows_of(table, path, options)
    if own and not _is_whole(own):
        (row,) = (event for event in own if event.type in RECORDING_TYPES)
        recording = read_recording(path, row, options)
        return recording, _marked(recording, table, row, select(own, "Sentence"))
    recording = read_recording_of(table, path, options)
    return recording, sentence_items([recording], **window).items


def _options(config: EncoderRecipe | LlmRecipe) -> tuple[SentenceReadOptions, dict[str, float]]:
    """Return how the trial's dataset read recordings and cut sentences."""
    data = config.data.model_dump()
    known = {name: data[name] for name in SentenceReadOptions.model_fields if name in data}
    known.pop("recordings_folder", None)
    window = {name: float(data[name]) for name in ("pre_s", "post_s") if name in data}
    return SentenceReadOptions(**{**known, "practice": 0}), window


def _rows_of(table: Path, path: Path, options: SentenceReadOptions) -> tuple[Event, ...]:
    """Return the rows of the timeline whose recording lies at a path; none where there is none."""
    events = read_events(table, options.columns)
    named = (event for event in events if event.type in RECORDING_TYPES and event.filepath)
    here = (row for row in named if path_of(row, table, options).resolve() == path.resolve())
    row = next(here, None)
    return tuple(event for event in events if row and event.timeline == row.timeline)


def _is_whole(own: Sequence[Event]) -> bool:
    """Return whether rows tell texts and key presses, as those that are trained on do."""
    sentences = select(own, "Sentence")
    texts = all(sentence.text.strip() for sentence in sentences)
    return bool(sentences) and texts and bool(select(own, "Keystroke"))


def _marked(
    recording: Recording, table: Path, row: Event, rows: Sequence[Event]
) -> list[SentenceItem]:
    """Return the sentences that a table only marks: from start to start + duration."""
    if not rows or any(sentence.duration <= 0 for sentence in rows):
        msg = f"events table {table}: needs rows of type Sentence with start and duration for"
        raise DataError(f"{msg} timeline '{row.timeline}', or the text and keys of each sentence")
    return [
        _item(recording, number, s.start - row.start, s.start - row.start + s.duration, s.text)
        for number, s in enumerate(rows)
    ]


def _whole(recording: Recording) -> SentenceItem:
    if recording.duration_s > _LONGEST_S:
        msg = f"{recording.name}: lasts {recording.duration_s:.0f} s and no events table says where"
        msg += f" its sentences are; give one with --events, or cut it to {_LONGEST_S:g} s or less"
        raise DataError(f"{msg}, which is read as one sentence")
    return _item(recording, 0, 0.0, recording.duration_s, "")


def _item(recording: Recording, number: int, start: float, stop: float, text: str) -> SentenceItem:
    name = f"{recording.name}/{number:04d}"
    return SentenceItem(name, "test", start, stop, (), text, "")


def _decode(
    recording: Recording,
    items: Sequence[SentenceItem],
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
    sentences = _cut(recording, items, config, facts)
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
            "start_s": round(item.start_s, 3),
            "stop_s": round(item.stop_s, 3),
            **one,
            **({"reference": item.reference} if item.reference else {}),
        }
        for item, one in zip(items, found, strict=True)
    ]


def _cut(
    recording: Recording,
    items: Sequence[SentenceItem],
    config: EncoderRecipe | LlmRecipe,
    facts: SentenceFacts,
) -> Any:
    from neurodecode.training.sentences import SentenceSet, SentenceSpan

    if len(recording.channels) != facts.num_channels:
        msg = f"{recording.name}: has {len(recording.channels)} sensors, the encoder was trained"
        raise DataError(f"{msg} on {facts.num_channels}; decode a recording of the same system")
    _check_layout(recording, facts)
    if recording.subject not in facts.subjects and facts.num_subjects > 1:
        msg = f"{recording.name}: subject '{recording.subject}' is unknown to the encoder; known"
        raise DataError(f"{msg} are {', '.join(facts.subjects)}: name one in the events table")
    known = recording.subject in facts.subjects
    subject = facts.subjects.index(recording.subject) if known else 0
    prepared = preprocess(recording, config.preprocessing)
    if abs(prepared.sfreq_hz - facts.sfreq_hz) > 1e-3 * facts.sfreq_hz:
        msg = f"{recording.name}: is at {prepared.sfreq_hz:g} Hz after preprocessing, the encoder"
        raise DataError(f"{msg} reads {facts.sfreq_hz:g} Hz; record at that rate or above")
    samples = [cut_sentence(prepared, item) for item in items]
    edges = np.concatenate([[0], np.cumsum([len(x_TC) for x_TC in samples])])
    spans = tuple(
        SentenceSpan(item.item, int(first), int(stop), subject)
        for item, first, stop in zip(items, edges, edges[1:], strict=False)
    )
    return SentenceSet(np.concatenate(samples), spans, facts.sfreq_hz)


def _check_layout(recording: Recording, facts: SentenceFacts) -> None:
    """Refuse sensors that are elsewhere than the encoder learnt them; bad ones have no place."""
    layout = recording.meta.get("layout") or {}
    places = [layout.get(name, NO_PLACE) for name in recording.channels]
    moved = [
        name
        for name, here, there in zip(recording.channels, places, facts.positions_C2, strict=True)
        if min(*here, *there) >= 0.0 and max(abs(here[i] - there[i]) for i in (0, 1)) > _MOVED
    ]
    if moved:
        msg = f"{recording.name}: {len(moved)} sensors are elsewhere than those that the encoder"
        msg += f" was trained on, first {moved[0]}; decode a recording of the same helmet, its"
        raise DataError(f"{msg} channels in the same order")
