"""Training of the small language model of characters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurodecode.llm._pretrain_prompts import (
    IGNORED,
    PromptNoise,
    Row,
    denoising_row,
    embed_rows,
    plain_row,
)
from neurodecode.llm._pretrain_tokenizer import BOS_ID, EOS_ID, MAX_LENGTH, PAD_ID, VOCABULARY
from neurodecode.text.corpus import load_sentences

_POOL = 16
_LOG_EVERY = 50
Log = Callable[[str], None]


@dataclass(frozen=True)
class PretrainConfig:
    """Sizes and schedule of the pre-training.

    Attributes
    ----------
    hidden, layers, heads, feed_forward
        Sizes of the model.
    batch_size
        Sentences in a step.
    plain
        Share of them that stand on their own.
    learning_rate, weight_decay, warmup
        AdamW; the rate rises for a share `warmup` of the training, then falls as a cosine.
    short, long_weight
        Sentences of more than `short` characters are drawn with this weight.
    typed
        Share of sentences drawn from those that may be typed.
    ramp
        Share of the training over which misreadings grow to full strength: without it, copying is
        learnt late.
    noise
        Full strength.
    minutes, steps
        When training ends; the first of the two, None for no limit of that kind.
    seed
        Decides weights, order and noise. With `minutes`, the machine's speed decides too.
    """

    hidden: int = 192
    layers: int = 4
    heads: int = 6
    feed_forward: int = 512
    batch_size: int = 32
    plain: float = 0.3
    learning_rate: float = 2.5e-3
    weight_decay: float = 0.1
    warmup: float = 0.03
    short: int = 32
    long_weight: float = 0.1
    typed: float = 0.5
    minutes: float | None = 35.0
    steps: int | None = None
    seed: int = 0
    ramp: float = 0.3
    noise: PromptNoise = field(default_factory=PromptNoise)


def build_model(config: PretrainConfig) -> Any:
    """Return an untrained model; the seed decides its weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=config.hidden,
        intermediate_size=config.feed_forward,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        bos_token_id=BOS_ID,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return LlamaForCausalLM(sizes)


def pretrain(
    sentences: Sequence[str],
    config: PretrainConfig,
    *,
    start: Path | None = None,
    log: Log = lambda _: None,
    save: Callable[[Any], None] = lambda _: None,
    save_every_s: float = 300.0,
) -> tuple[Any, list[float]]:
    """Train a model.

    Parameters
    ----------
    sentences
        Normalised sentences.
    config
        Options.
    start
        Folder of a model to go on from, with new moments of AdamW; None begins anew.
    log
        Gets a line now and then.
    save
        Gets the model every `save_every_s` seconds.
    save_every_s
        Seconds between two calls of `save`.

    Returns
    -------
    model, losses
        The trained model, and the loss of every step, in nats per learnt character.

    Raises
    ------
    ValueError
        When neither `minutes` nor `steps` is given.
    """
    if config.minutes is None and config.steps is None:
        raise ValueError("minutes or steps must be given, or training never ends")
    model = build_model(config) if start is None else _read(start)
    model.set_attn_implementation("eager")  # in bfloat16 on a CPU faster than the fused one
    model.train()
    optimiser = _optimiser(model, config)
    generator = torch.Generator().manual_seed(config.seed)
    losses: list[float] = []
    begun = saved = time.monotonic()

    def progress() -> float:
        return _progress(len(losses), time.monotonic() - begun, config)

    for rows in _batches(sentences, config, progress):
        done = progress()
        if done >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(done, config.warmup)
        losses.append(_step(model, rows, optimiser, generator))
        if len(losses) % _LOG_EVERY == 0:
            recent = float(np.mean(losses[-_LOG_EVERY:]))
            log(f"step {len(losses)}, {done:.1%}, loss {recent:.4f}")
        if time.monotonic() - saved >= save_every_s:
            save(model)
            saved = time.monotonic()
    model.set_attn_implementation("sdpa")
    return model.eval(), losses


def _read(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def _optimiser(model: nn.Module, config: PretrainConfig) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def _progress(steps: int, seconds: float, config: PretrainConfig) -> float:
    by_step = steps / config.steps if config.steps is not None else 0.0
    by_time = seconds / (60 * config.minutes) if config.minutes is not None else 0.0
    return max(by_step, by_time)


def _schedule(done: float, warmup: float) -> float:
    if done < warmup:
        return 0.05 + 0.95 * done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _batches(
    sentences: Sequence[str], config: PretrainConfig, progress: Callable[[], float]
) -> Iterator[tuple[list[Row], ...]]:
    """Yield plain and misread sequences for ever; those of one batch are about equally long."""
    rng = np.random.default_rng(config.seed)
    weights = _weights(sentences, config)
    num_plain = round(config.plain * config.batch_size)
    sizes = (num_plain, config.batch_size - num_plain)
    while True:
        drawn = rng.choice(len(sentences), size=_POOL * config.batch_size, p=weights)
        texts = [sentences[i] for i in drawn]
        noise = config.noise.weaker(progress() / config.ramp if config.ramp else 1.0)
        plain = [plain_row(text) for text in texts[: _POOL * num_plain]]
        misread = [denoising_row(text, noise, rng) for text in texts[_POOL * num_plain :]]
        for rows in (plain, misread):
            rows.sort(key=lambda row: len(row.places))
        orders = (rng.permutation(_POOL), rng.permutation(_POOL))
        for places in zip(*orders, strict=True):
            yield tuple(
                rows[place * size : (place + 1) * size]
                for rows, size, place in zip((plain, misread), sizes, places, strict=True)
            )


def _weights(sentences: Sequence[str], config: PretrainConfig) -> Any:
    typed = set(load_sentences())
    is_typed = np.array([text in typed for text in sentences])
    weights = np.where([len(text) > config.short for text in sentences], config.long_weight, 1.0)
    for group, share in ((is_typed, config.typed), (~is_typed, 1 - config.typed)):
        if group.any():
            weights[group] *= share / weights[group].sum()
    return weights / weights.sum()


def _step(
    model: Any,
    batch: Sequence[Sequence[Row]],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> float:
    number = sum(target != IGNORED for rows in batch for row in rows for target in row.targets)
    total = 0.0
    for rows in batch:
        if rows:
            loss = _loss(model, rows, generator) / number
            torch.autograd.backward(loss)
            total += float(loss.detach())
    if not math.isfinite(total):
        raise FloatingPointError(f"the loss is {total}; use a smaller learning rate")
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return total


def _loss(model: Any, rows: Sequence[Row], generator: torch.Generator) -> Tensor:
    embedding_VH = model.get_input_embeddings().weight
    embedded_BLH, targets_BL, _ = embed_rows(rows, embedding_VH, generator)
    with torch.autocast("cpu", torch.bfloat16):
        hidden_BLH = model.model(inputs_embeds=embedded_BLH, use_cache=False).last_hidden_state
        learnt_BL = targets_BL[:, 1:] != IGNORED
        logits_NV = model.lm_head(hidden_BLH[:, :-1][learnt_BL])
    return cross_entropy(logits_NV.float(), targets_BL[:, 1:][learnt_BL], reduction="sum")
