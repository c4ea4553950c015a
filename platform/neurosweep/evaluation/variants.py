"""Other outputs of a job for the same items, scored beside its hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from neurosweep.evaluation.prediction_lines import Prediction
from neurosweep.evaluation.rates import Edits

ItemEdits = dict[str, tuple[Edits, Edits]]
"""Item to its word edits and character edits."""


def variant_problems(predictions: Mapping[str, Prediction]) -> list[str]:
    """Return what is wrong with variants that only some of the given items have."""
    given = {item: prediction for item, prediction in predictions.items() if not prediction.missing}
    names = _names(given)
    return [
        f"item {item!r}: lacks the variant {', '.join(sorted(missing))} that other items give; "
        "give every variant for all items or for none"
        for item, prediction in sorted(given.items())
        if (missing := names - set(prediction.variants))
    ]


def variant_edits(
    predictions: Mapping[str, Prediction],
    texts: Mapping[str, str],
    count: Callable[[Mapping[str, str], Mapping[str, str]], ItemEdits],
) -> dict[str, dict[str, tuple[Edits, Edits]]]:
    """Return the edits of every variant of every item; an item without prediction has empty ones.

    Parameters
    ----------
    predictions
        Item to prediction.
    texts
        Item to reference.
    count
        Turns references and hypotheses into edits, see `neurosweep.evaluation.rates`.

    Returns
    -------
    dict
        Item to variant to its word edits and character edits; items in the order of `texts`.
    """
    edits: dict[str, dict[str, tuple[Edits, Edits]]] = {item: {} for item in texts}
    for name in sorted(_names(predictions)):
        guesses = {item: p.variants.get(name, "") for item, p in predictions.items()}
        for item, found in count(texts, guesses).items():
            edits[item][name] = found
    return edits


def _names(predictions: Mapping[str, Prediction]) -> set[str]:
    return {name for prediction in predictions.values() for name in prediction.variants}
