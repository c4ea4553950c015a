"""Names of metrics that belong to a variant: another output of a job for the same items."""

from __future__ import annotations

import re

_VARIANT = re.compile(r"((?:val|test)_(?:wer|cer))_([a-z_]{1,24})")
_LABELS = {"greedy": "Greedy CTC", "no_meg": "Without MEG tokens"}


def variant_of(metric: str) -> tuple[str, str] | None:
    """Return rate and variant of a metric, or None when it is the hypothesis's own.

    Examples
    --------
    >>> variant_of("val_wer_no_meg"), variant_of("val_wer")
    (('val_wer', 'no_meg'), None)
    """
    match = _VARIANT.fullmatch(metric)
    return (match[1], match[2]) if match else None


def variant_label(name: str) -> str:
    """Return a variant's name as people read it.

    Examples
    --------
    >>> variant_label("no_meg"), variant_label("beam_of_one")
    ('Without MEG tokens', 'Beam of one')
    """
    return _LABELS.get(name, name.replace("_", " ").strip().capitalize())
