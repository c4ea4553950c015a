"""Beam search over a tree of keys and values.

The beams of a sentence are the queries of one row: every step appends one column a beam to the
row's cache, and a mask tells which columns are the ancestors of which beam. Prompts are kept once
for all beams and the cache is never reordered, which is what makes a beam search of short
sentences slow elsewhere. Results are those of ``transformers`` with ``early_stopping=True``.

Array names carry their axes: A open sentence, B sentence, H hidden, K beam, L prompt token, N new
token, S column of the cache, V vocabulary, X candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurodecode.llm.last_layer import last_positions
from neurodecode.llm.tree_cache import tree_cache

_NEVER = -1e9


@dataclass(frozen=True)
class BeamOptions:
    """How a search is made.

    Attributes
    ----------
    beams
        Hypotheses kept for each sentence.
    nbest
        Hypotheses returned, at most `beams`.
    max_new_tokens
        Tokens at most, the end of the sentence included.
    length_penalty
        Scores are log-probabilities divided by the length to this power.
    eos_id
        Token that ends a sentence.
    """

    beams: int
    nbest: int
    max_new_tokens: int
    length_penalty: float
    eos_id: int


@dataclass(frozen=True)
class TokenHypothesis:
    """Hold one ending of a search.

    Attributes
    ----------
    ids
        New tokens, without the one that ends the sentence.
    score
        Log-probability divided by the length to the power of the penalty.
    logp
        Log-probability of the new tokens, natural logarithm.
    """

    ids: tuple[int, ...]
    score: float
    logp: float


@torch.inference_mode()
def beam_search(
    model: Any, prompt_BLH: Tensor, mask_BL: Tensor, options: BeamOptions
) -> list[list[TokenHypothesis]]:
    """Return the best continuations of every prompt, best first.

    Parameters
    ----------
    model
        Causal language model of transformers whose layers all have full attention.
    prompt_BLH
        Input vectors, padded on the left.
    mask_BL
        Which positions are no padding.
    options
        Width, lengths and penalty.
    """
    search = _Search(model, prompt_BLH, mask_BL, options)
    logits_AKV = search.read_prompts()
    for step in range(options.max_new_tokens):
        search.extend(logits_AKV, step)
        if not search.close_finished(step):
            break
        logits_AKV = search.read_tokens(step)
    return search.results()


class _Search:
    def __init__(
        self, model: Any, prompt_BLH: Tensor, mask_BL: Tensor, options: BeamOptions
    ) -> None:
        self.model, self.options = model, options
        self.cache = tree_cache()
        num, beams, device = len(prompt_BLH), options.beams, prompt_BLH.device
        self.prompt_ALH, self.mask_AL = prompt_BLH, mask_BL
        self.length_A = mask_BL.sum(1)
        self.open_A = torch.arange(num, device=device)
        self.logp_AK = torch.full((num, beams), _NEVER, device=device)
        self.logp_AK[:, 0] = 0.0
        shape = (num, beams, options.max_new_tokens)
        self.ids_AKN = torch.full(shape, options.eos_id, device=device)
        self.seen_AKS = mask_BL[:, None, :].expand(-1, beams, -1)
        self.done = _Finished(num, options, device)

    def read_prompts(self) -> Tensor:
        """Return the logits of the first new token, and forget the prompts."""
        position_AL = (self.mask_AL.cumsum(1) - 1).clamp(min=0)
        with last_positions(self.model, 1):
            logits_AV = self._forward(
                inputs_embeds=self.prompt_ALH,
                attention_mask=self.mask_AL.long(),
                position_ids=position_AL,
                logits_to_keep=1,
            )
        del self.prompt_ALH
        return logits_AV.expand(-1, self.options.beams, -1)

    def read_tokens(self, step: int) -> Tensor:
        """Return the logits after the token that was chosen at a step."""
        num, beams, columns = self.seen_AKS.shape
        itself_KK = torch.eye(beams, dtype=torch.bool, device=self.seen_AKS.device)
        self.seen_AKS = torch.cat([self.seen_AKS, itself_KK.expand(num, -1, -1)], dim=2)
        bias_AKS = torch.zeros((num, 1, beams, columns + beams), device=self.seen_AKS.device)
        dtype = self.model.dtype
        bias_AKS = bias_AKS.masked_fill(~self.seen_AKS[:, None], torch.finfo(dtype).min).to(dtype)
        return self._forward(
            input_ids=self.ids_AKN[:, :, step],
            attention_mask=bias_AKS,
            position_ids=(self.length_A[:, None] + step).expand(-1, beams),
        )

    def extend(self, logits_AKV: Tensor, step: int) -> None:
        """Choose the next token of every beam, and keep what ended."""
        beams, vocabulary = self.options.beams, logits_AKV.shape[2]
        total_AKV = logits_AKV.float().log_softmax(-1) + self.logp_AK[:, :, None]
        logp_AX, flat_AX = total_AKV.flatten(1).topk(2 * beams, dim=1)
        parent_AX, token_AX = flat_AX // vocabulary, flat_AX % vocabulary
        ids_AXN = _rows(self.ids_AKN, parent_AX)
        ids_AXN[:, :, step] = token_AX
        ends_AX = token_AX == self.options.eos_id
        if step + 1 == self.options.max_new_tokens:
            ends_AX = torch.ones_like(ends_AX)
        # Only the best `beams` candidates may end; the others are there to keep beams running.
        self.done.offer(
            self.open_A, logp_AX[:, :beams], ids_AXN[:, :beams], ends_AX[:, :beams], step + 1
        )
        self.logp_AK, keep_AK = (logp_AX + ends_AX * _NEVER).topk(beams, dim=1)
        self.ids_AKN = _rows(ids_AXN, keep_AK)
        self.seen_AKS = _rows(self.seen_AKS, parent_AX.gather(1, keep_AK))

    def close_finished(self, step: int) -> bool:
        """Drop sentences that cannot get better; return whether any is left."""
        open_A = ~self.done.settled(self.open_A, self.logp_AK[:, 0])
        if step + 1 == self.options.max_new_tokens or not open_A.any():
            return False
        # Dropping rows copies the cache: it pays when enough of them are gone.
        if open_A.float().mean() <= 0.9:
            self._keep(open_A.nonzero()[:, 0])
        return True

    def results(self) -> list[list[TokenHypothesis]]:
        """Return the best endings of every sentence."""
        return self.done.results()

    def _keep(self, rows_A: Tensor) -> None:
        self.open_A, self.length_A = self.open_A[rows_A], self.length_A[rows_A]
        self.logp_AK, self.ids_AKN = self.logp_AK[rows_A], self.ids_AKN[rows_A]
        self.seen_AKS = self.seen_AKS[rows_A]
        self.cache.keep(rows_A)

    def _forward(self, **inputs: Any) -> Tensor:
        output = self.model(**inputs, past_key_values=self.cache, use_cache=True)
        logits: Tensor = output.logits
        return logits


class _Finished:
    """Keep the best endings of every sentence."""

    def __init__(self, num: int, options: BeamOptions, device: torch.device) -> None:
        self.options = options
        shape = (num, options.beams)
        self.score_BK = torch.full(shape, _NEVER, device=device)
        self.logp_BK = torch.full(shape, _NEVER, device=device)
        self.size_BK = torch.zeros(shape, dtype=torch.long, device=device)
        ids_shape = (*shape, options.max_new_tokens)
        self.ids_BKN = torch.full(ids_shape, options.eos_id, device=device)

    def offer(
        self, open_A: Tensor, logp_AK: Tensor, ids_AKN: Tensor, ends_AK: Tensor, size: int
    ) -> None:
        """Merge candidates that end now into the best endings; full sentences take no more."""
        if not bool(ends_AK.any()):
            return
        full_A1 = (self.size_BK[open_A] > 0).all(1, keepdim=True)
        score_AK = (logp_AK / size**self.options.length_penalty).masked_fill(
            ~ends_AK | full_A1, _NEVER
        )
        both = torch.cat([self.score_BK[open_A], score_AK], dim=1)
        score_AK, index_AK = both.topk(self.options.beams, dim=1)
        size_AK = torch.full_like(index_AK, size) * ends_AK
        for name, new in (("logp_BK", logp_AK), ("size_BK", size_AK), ("ids_BKN", ids_AKN)):
            kept = getattr(self, name)
            kept[open_A] = _rows(torch.cat([kept[open_A], new], dim=1), index_AK)
        self.score_BK[open_A] = score_AK

    def settled(self, open_A: Tensor, best_running_A: Tensor) -> Tensor:
        """Return for which sentences no open beam can change what is returned.

        Log-probabilities only fall, so an open beam ends below its present one divided by the
        penalty of the length that favours it most.
        """
        options = self.options
        size = options.max_new_tokens if options.length_penalty > 0 else 1
        bound_A = best_running_A / float(size**options.length_penalty)
        worst_A = self.score_BK[open_A, options.nbest - 1]
        full_A = (self.size_BK[open_A] > 0).all(1)
        settled_A: Tensor = full_A | ((worst_A > _NEVER) & (bound_A <= worst_A))
        return settled_A

    def results(self) -> list[list[TokenHypothesis]]:
        """Return the best endings of every sentence, best first."""
        results = []
        lists = (self.score_BK, self.logp_BK, self.size_BK, self.ids_BKN)
        for scores, logps, sizes, ids_KN in zip(*(x.tolist() for x in lists), strict=True):
            endings = zip(scores, logps, sizes, ids_KN, strict=True)
            found = [
                TokenHypothesis(_without_end(ids[:size], self.options.eos_id), score, logp)
                for score, logp, size, ids in endings
                if size > 0
            ]
            results.append(found[: self.options.nbest])
        return results


def _rows(x_AK: Tensor, index_AX: Tensor) -> Tensor:
    """Return the rows (open sentence, candidate) of an array (open sentence, beam, ...)."""
    return x_AK[torch.arange(len(x_AK), device=x_AK.device)[:, None], index_AX]


def _without_end(ids: list[int], eos_id: int) -> tuple[int, ...]:
    return tuple(ids[:-1] if ids and ids[-1] == eos_id else ids)
