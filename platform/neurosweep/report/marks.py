"""Two sentences side by side: the words of one, with what is wrong against the other marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurosweep.evaluation.text import normalise
from neurosweep.records.mlflow_names import clean_text

if TYPE_CHECKING:
    from markupsafe import Markup

_MAX_CHARACTERS = 400


def marked(reference: str, hypothesis: str) -> Markup:
    """Return a hypothesis as HTML; the alignment is the one that the word error rate counts.

    Wrong words are ``<mark class="wrong">``, added ones ``<mark class="added">``, missing
    ones ``<del>``. For those who hear the page each is preceded by a word that is not seen.

    Parameters
    ----------
    reference
        The sentence that was to be decoded.
    hypothesis
        What was decoded; it is cut after 400 characters.
    """
    import jiwer
    from markupsafe import Markup, escape

    truth = normalise(clean_text(reference, _MAX_CHARACTERS))
    guess = normalise(clean_text(hypothesis, _MAX_CHARACTERS))
    units = jiwer.ReduceToListOfListOfWords()
    output = jiwer.process_words(
        [truth], [guess], reference_transform=units, hypothesis_transform=units
    )
    true_words, words = output.references[0], output.hypotheses[0]
    parts: list[Markup] = []
    for chunk in output.alignments[0]:
        own = words[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            parts.append(escape(" ".join(own)))
        elif chunk.type == "substitute":
            parts += [_mark("wrong", word) for word in own]
        elif chunk.type == "insert":
            parts += [_mark("added", word) for word in own]
        else:
            missing = true_words[chunk.ref_start_idx : chunk.ref_end_idx]
            parts += [_missing(word) for word in missing]
    return Markup(" ").join(parts)


def _mark(kind: str, word: str) -> Markup:
    from markupsafe import Markup

    text = Markup('<mark class="{0}"><span class="heard">{0}: </span>{1}</mark>')
    return text.format(kind, word)


def _missing(word: str) -> Markup:
    from markupsafe import Markup

    return Markup('<del><span class="heard">missing: </span>{}</del>').format(word)
