"""Training jobs that train nothing: they take milliseconds and end in every way a job can.

The signal of an item is its text in numbers. `instant` reads it back with an error rate that is a
smooth function of the configuration, so that a search has something to find. Other jobs misbehave.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from neurosweep.exec.job_api import JobContext

Prediction = dict[str, Any]
Job = Callable[[JobContext], Iterator[Prediction]]

LETTERS = "abcdefghijklmnopqrstuvwxyz "
_MEGABYTE = 1024 * 1024
_OOM_STEP_MB = 32
_OOM_CEILING_MB = 2048


def true_error(config: Mapping[str, Any]) -> float:
    """Return the error rate per letter of a configuration without the noise of its seed.

    The best is near ``training.learning_rate`` 3e-3, ``training.weight_decay`` 1e-3,
    ``model.rank`` 16 and ``training.batch_size`` 32.
    """
    training, model = config.get("training", {}), config.get("model", {})
    error = 0.12
    error += 0.09 * math.log10(training.get("learning_rate", 1e-4) / 3e-3) ** 2
    error += 0.02 * math.log10(training.get("weight_decay", 1e-3) / 1e-3) ** 2
    error += 0.03 * abs(math.log2(model.get("rank", 8) / 16))
    error += 0.02 * abs(math.log2(training.get("batch_size", 32) / 32))
    return min(max(error, 0.0), 0.95)


def instant(ctx: JobContext) -> Iterator[Prediction]:
    """Predict every item at once, with the error rate of the configuration.

    ``fault.mode`` names a job of `JOBS`, or several with commas between them, that a share
    ``fault.share`` of the seeds runs instead; ``fault.delay_s`` is waited first.
    """
    fault = ctx.config.get("fault", {})
    modes = str(fault.get("mode", "none")).split(",")
    draw = random.Random(f"fault-{ctx.seed}")
    chosen = draw.random() < float(fault.get("share", 0.0))
    _wait(ctx, float(fault.get("delay_s", 0.0)))
    if modes != ["none"] and chosen:
        yield from JOBS[draw.choice(modes)](ctx)
        return
    error = true_error(ctx.config) + random.Random(f"noise-{ctx.seed}").gauss(0.0, 0.01)
    error = min(max(error, 0.01), 0.95)
    for epoch in range(int(ctx.config.get("training", {}).get("epochs", 2))):
        ctx.log(step=epoch, epoch=epoch, loss=error + math.exp(-epoch), dev_error=error)
    yield from _predictions(ctx, error)


def steps(ctx: JobContext) -> Iterator[Prediction]:
    """Take ``training.epochs`` steps of ``fault.delay_s`` each, and go on after an interruption.

    Curves and predictions depend on every step, so that a lost or a repeated one shows.
    """
    step, chain = 0, hashlib.sha256(f"{ctx.seed}".encode()).hexdigest()
    saved = ctx.load("steps")
    if saved is not None:
        step, chain = json.loads(saved.read_text(encoding="utf-8"))
    for number in range(step, int(ctx.config["training"]["epochs"])):
        _wait(ctx, float(ctx.config["fault"]["delay_s"]))
        chain = hashlib.sha256(f"{chain}{number}".encode()).hexdigest()
        ctx.log(step=number, epoch=number, loss=int(chain[:8], 16) / 2**32)
        if ctx.save_due():
            ctx.save("steps", partial(_write, json.dumps([number + 1, chain])))
    yield from _predictions(ctx, min(true_error(ctx.config), 0.3), chain)


def _write(text: str, file: BinaryIO) -> None:
    file.write(text.encode())


def _predictions(ctx: JobContext, error: float, draw: object = None) -> Iterator[Prediction]:
    for item, signal_of_item in sorted(_signals(ctx).items()):
        rng = random.Random(f"{ctx.seed if draw is None else draw}-{item}")
        letters = [_noisy(LETTERS[n], LETTERS, error, rng) for n in signal_of_item["letters"]]
        windows = [_noisy(str(n), "01", error, rng) for n in signal_of_item["windows"]]
        yield {"item": item, "hypothesis": "".join(letters), "windows": "".join(windows)}


def staged(ctx: JobContext) -> Iterator[Prediction]:
    """Predict as a decoder of two stages, with what the first says and the second without signal.

    They are the variants ``greedy`` and ``no_meg``, each with more errors than the hypothesis. An
    adapter of a few bytes is left as its checkpoint.
    """
    adapter = ctx.ckpt_dir / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 8}\n', encoding="utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / "README.md").write_text("made by a job\n", encoding="utf-8")
    error = min(true_error(ctx.config), 0.3)
    outputs = [list(_predictions(ctx, error * factor)) for factor in (1.0, 1.5, 2.0)]
    for prediction, greedy, no_meg in zip(*outputs, strict=True):
        variants = {"greedy": greedy["hypothesis"], "no_meg": no_meg["hypothesis"]}
        yield prediction | {"variants": variants}


def assorted(ctx: JobContext) -> Iterator[Prediction]:
    """Run the job that ``fault.mode`` lists for the trial's place in its round.

    It holds names of jobs with commas between; places beyond its end get the last one.
    """
    names = str(ctx.config["fault"]["mode"]).split(",")
    place = int(ctx.attempt_dir.parents[1].name[-3:])
    yield from JOBS[names[min(place, len(names) - 1)]](ctx)


def _noisy(symbol: str, alphabet: str, error: float, rng: random.Random) -> str:
    if rng.random() >= error:
        return symbol
    return rng.choice([other for other in alphabet if other != symbol])


def _signals(ctx: JobContext) -> dict[str, Any]:
    signals: dict[str, Any] = {}
    for fold in ctx.folds:
        path = Path(fold) / ctx.part / "x.json"
        signals |= json.loads(path.read_text(encoding="utf-8"))
    return signals


def _wait(ctx: JobContext, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ctx.should_stop() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))


def sleepy(ctx: JobContext) -> Iterator[Prediction]:
    """Give signs of life for ``fault.delay_s`` (default 60 s), or until asked to stop."""
    end = time.monotonic() + float(ctx.config.get("fault", {}).get("delay_s") or 60.0)
    step = 0
    while time.monotonic() < end and not ctx.should_stop():
        step += 1
        ctx.beat("sleep", step=step)
        time.sleep(0.02)
    yield from _predictions(ctx, 0.5)


def hang(ctx: JobContext) -> Iterator[Prediction]:
    """Make one step, then none, deaf to requests to stop."""
    ctx.beat("train", step=1)
    while True:
        time.sleep(3600.0)
    yield {}


def crash(_ctx: JobContext) -> Iterator[Prediction]:
    """Raise an error."""
    msg = "the model of this job always fails"
    raise RuntimeError(msg)
    yield {}


def import_error(_ctx: JobContext) -> Iterator[Prediction]:
    """Fail at an import, as where a library is missing on a machine."""
    importlib.import_module("a_library_that_nobody_has")
    yield {}


def segfault(_ctx: JobContext) -> Iterator[Prediction]:
    """Die of a signal, as broken native code does."""
    os.kill(os.getpid(), signal.SIGSEGV)
    yield {}


def vanish(_ctx: JobContext) -> Iterator[Prediction]:
    """Die at once without a trace, as a process that somebody killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    yield {}


def leave(_ctx: JobContext) -> Iterator[Prediction]:
    """End the process with code 7, past every handler."""
    os._exit(7)
    yield {}


def oom(_ctx: JobContext) -> Iterator[Prediction]:
    """Take memory until it is refused, 2 GB at most."""
    blocks: list[bytearray] = []
    for _ in range(_OOM_CEILING_MB // _OOM_STEP_MB):
        blocks.append(bytearray(os.urandom(1) * (_OOM_STEP_MB * _MEGABYTE)))
        time.sleep(0.01)
    raise MemoryError
    yield {}


def hoard(ctx: JobContext) -> Iterator[Prediction]:
    """Hold 1 GB, more than it may on a cluster that looks, for ``fault.delay_s`` (default 60 s)."""
    held = b"x" * (1024 * _MEGABYTE)
    yield from sleepy(ctx)
    del held


def oom_gpu(_ctx: JobContext) -> Iterator[Prediction]:
    """Fail as torch does when the GPU is full."""
    msg = "CUDA out of memory. Tried to allocate 2.00 GiB"
    raise RuntimeError(msg)
    yield {}


def diverge(ctx: JobContext) -> Iterator[Prediction]:
    """Report a loss that is not a number."""
    ctx.log(step=0, epoch=0, loss=1.0)
    ctx.log(step=1, epoch=0, loss=float("nan"))
    yield {}


def full_disk(ctx: JobContext) -> Iterator[Prediction]:
    """Fail as a write on a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(ctx.ckpt_dir / "last.ckpt"))
    yield {}


def fill_disk(ctx: JobContext) -> Iterator[Prediction]:
    """Write until no room is left, 64 MB at most: it is for folders on a small disk."""
    with (ctx.ckpt_dir / "last.ckpt").open("wb", buffering=0) as file:
        for _ in range(1024):
            file.write(bytes(_MEGABYTE // 16))
    yield from _predictions(ctx, 0.1)


def noisy(ctx: JobContext) -> Iterator[Prediction]:
    """Print from Python and past Python, then end well."""
    os.write(1, b"written past Python\n")
    os.write(2, b"an error written past Python\n")
    size = int(float(ctx.config.get("fault", {}).get("share", 0.0)) * _MEGABYTE)
    for _ in range(size // 1000):
        os.write(1, b"x" * 999 + b"\n")
    yield from _predictions(ctx, 0.1)


def tell(ctx: JobContext) -> Iterator[Prediction]:
    """Print, as a line of JSON, in which process and with which variables it runs."""
    process = {"pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0)}
    process["threads"] = ctx.threads
    words = {name: value for name, value in os.environ.items() if name.startswith("NEUROSWEEP_")}
    os.write(1, json.dumps(process | {"env": words}).encode() + b"\n")
    yield from _predictions(ctx, 0.1)


def nan_predictions(ctx: JobContext) -> Iterator[Prediction]:
    """Yield a probability that is not a number."""
    for prediction in _predictions(ctx, 0.1):
        yield prediction | {"logp": float("nan")}


def unknown_item(ctx: JobContext) -> Iterator[Prediction]:
    """Yield an item that nobody asked for."""
    yield from _predictions(ctx, 0.1)
    yield {"item": "nobody/nothing/0", "hypothesis": "x"}


def duplicate_item(ctx: JobContext) -> Iterator[Prediction]:
    """Yield one item twice."""
    predictions = list(_predictions(ctx, 0.1))
    yield from [*predictions, predictions[0]]


def missing_item(ctx: JobContext) -> Iterator[Prediction]:
    """Leave the first item out, which is legal: it counts as an empty prediction."""
    yield from list(_predictions(ctx, 0.1))[1:]


def not_predictions(_ctx: JobContext) -> Iterator[Prediction]:
    """Yield something else than predictions."""
    yield {"score": 0.0}


def endless_predictions(_ctx: JobContext) -> Iterator[Prediction]:
    """Yield predictions without end."""
    text = "x" * 10_000
    number = 0
    while True:
        number += 1
        yield {"item": f"s01/r01/{number}", "hypothesis": text}


def hostile(ctx: JobContext) -> Iterator[Prediction]:
    """Write files past the runner, claim success, and leave; ``fault.hostile`` says which.

    One of ``nan``, ``huge``, ``not_utf8``, ``symlink``, ``folder``, ``fifo``, ``deep``,
    ``status_damaged``, ``status_huge``, ``status_score``.
    """
    mode = str(ctx.config.get("fault", {}).get("hostile", "nan"))
    predictions, status = ctx.attempt_dir / "predictions.jsonl", ctx.attempt_dir / "status.json"
    _HOSTILE_PREDICTIONS.get(mode, _write_empty)(predictions)
    good = {"v": 1, "outcome": "done", "kind": "none", "error": None, "files": {}}
    if mode == "status_damaged":
        status.write_bytes(b'{"v": 1, "outcome": "do')
    elif mode == "status_huge":
        _write_huge(status)
    elif mode == "status_score":
        lie = good | {"val_cer": 0.0, "metrics": {"val_cer": 0.0}}
        status.write_text(json.dumps(lie), encoding="utf-8")
    else:
        status.write_text(json.dumps(good), encoding="utf-8")
    os._exit(0)
    yield {}


def _write_empty(path: Path) -> None:
    path.write_bytes(b"")


def _write_nan(path: Path) -> None:
    path.write_bytes(b'{"item": "s01/r01/0", "hypothesis": "a", "logp": NaN}\n')


def _write_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200 * _MEGABYTE)


def _write_not_utf8(path: Path) -> None:
    path.write_bytes(b'{"item": "s01/r01/0", "hypothesis": "\xff\xfe"}\n')


def _write_deep(path: Path) -> None:
    path.write_bytes(b"[" * 200_000 + b"\n")


_HOSTILE_PREDICTIONS: Mapping[str, Callable[[Path], None]] = {
    "nan": _write_nan,
    "huge": _write_huge,
    "not_utf8": _write_not_utf8,
    "symlink": lambda path: path.symlink_to("/etc/passwd"),
    "folder": lambda path: path.mkdir(),
    "fifo": lambda path: os.mkfifo(path),
    "deep": _write_deep,
}

JOBS: Mapping[str, Job] = {
    job.__name__: job
    for job in (
        instant,
        staged,
        steps,
        assorted,
        sleepy,
        hang,
        crash,
        import_error,
        segfault,
        vanish,
        leave,
        oom,
        hoard,
        oom_gpu,
        diverge,
        full_disk,
        fill_disk,
        noisy,
        tell,
        nan_predictions,
        unknown_item,
        duplicate_item,
        missing_item,
        not_predictions,
        endless_predictions,
        hostile,
    )
}
