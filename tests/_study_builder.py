"""Write a finished study, ledger and run folders, without running anything.

The response surface is smooth with noise, proposals contract round by round, some trials fail,
and one is refilled after an infrastructure failure.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosweep.core.files import sha256_bytes
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.ids import reserve_trial_id, search_trial_id
from neurosweep.records.ledger import Ledger
from neurosweep.records.trial import Purpose, TrialPlan

COMMIT = "4f1d2c9ab37e5d60817263544f1d2c9ab37e5d60"
DATA_FP = "d3adc0de00112233"
DEFAULTS: dict[str, Any] = {
    "training.learning_rate": 1e-3,
    "training.weight_decay": 0.01,
    "model.channels": 32,
    "model.dropout": 0.25,
    "model.pooling": "mean",
    "training.batch_size": 64,
}
FIELDS: list[dict[str, Any]] = [
    {"path": "training.learning_rate", "type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    {"path": "training.weight_decay", "type": "float", "low": 1e-5, "high": 1.0, "log": True},
    {"path": "model.channels", "type": "int", "low": 8, "high": 128, "log": True},
    {"path": "model.dropout", "type": "float", "low": 0.0, "high": 0.7, "log": False},
    {"path": "model.pooling", "type": "str", "choices": ["mean", "max", "last"]},
    {"path": "training.batch_size", "type": "int", "choices": [16, 32, 64, 128]},
]
IDEA = "smaller steps <b>&</b> more $\\alpha$ dropout"


@dataclass
class StepClock:
    """A clock that moves only when told, so that ledgers are equal byte for byte."""

    t: float = 1_790_000_000.0

    def now(self) -> float:
        return self.t

    def monotonic(self) -> float:
        return self.t

    def sleep(self, seconds: float) -> None:
        self.t += seconds


@dataclass
class StudyBuilder:
    """Build a study event by event; `build_study` drives it to the end."""

    home: Home
    study: str = "speller-20260921-ab12"
    rounds: int = 2
    per_round: int = 50
    floor: int = 5
    subjects: Sequence[str] = ("S01", "S02", "S03")
    metric: str = "val_cer"
    direction: str = "minimize"
    fail_share: float = 0.08
    seed: int = 7
    idea: str = IDEA
    idea_every: int = 9
    steps: int = 6
    clock: StepClock = field(default_factory=StepClock)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.dir = self.home.study(self.study)
        (self.dir.root / "trials").mkdir(parents=True)
        self.ledger = Ledger(self.dir.ledger, self.clock)
        self.best: dict[str, Any] = dict(DEFAULTS)
        self.best_value, self.best_trial = math.inf, ""

    def create(self) -> None:
        schema = [{"default": DEFAULTS[f["path"]], "doc": "", **f} for f in FIELDS]
        self.dir.schema_json.write_text(json.dumps(schema), encoding="utf-8")
        secret = self.home.secret(DATA_FP)
        secret.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"item": item, "subject": item[:3], "reference": "K", "typed": "K"})
            for item in self.items()
        ]
        (secret / "val_refs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.ledger.append("study_created", self._created())

    def _created(self) -> dict[str, Any]:
        config: dict[str, Any] = {"data": {"dataset": "noisetag_speller"}}
        for path, value in DEFAULTS.items():
            section, name = path.split(".")
            config.setdefault(section, {})[name] = value
        return {
            "study": self.study,
            "spec": {
                "name": "speller",
                "recipe": "speller_small",
                "stage": "encoder",
                "seed": self.seed,
                "agent": {"name": "optuna_tpe", "options": {}, "fallback": "random_search"},
                "budget": {
                    "rounds": self.rounds,
                    "trials_per_round": self.per_round,
                    "trial_minutes": 5.0,
                    "gpu_hours": None,
                    "max_attempts": 3,
                },
                "reserve": {"floor": self.floor, "confirm": 0, "sentinel": 0, "canary": 0},
                "objective": {"metric": self.metric, "direction": self.direction},
                "search": {"exposed": [], "override": {}},
                "execution": {"on": "local", "workers": 2},
            },
            "config": config,
            "schema_sha": "0" * 64,
            "commit": COMMIT,
            "dirty": False,
            "diff_sha": "",
            "data_fp": DATA_FP,
            "data_info": {
                "chance": {"val_cer": 1 - 1 / 26, "val_acc": 1 / 26, "val_window_err": 0.5},
                "parts": {
                    "train": {"items": 24, "windows": 9072},
                    "dev": {"items": 4, "windows": 1512},
                    "val": {"items": 10, "windows": 3780},
                    "test": {"items": 10, "windows": 3780},
                },
                "split": "contiguous blocks of time: 60 % train, 10 % dev, then val, then test",
            },
            "env": {"python": "3.11.2", "torch": "2.13.0", "cpu": "2 cores"},
        }

    def items(self) -> list[str]:
        return [f"{subject}/run1/t{i:02d}" for subject in self.subjects for i in range(4)]

    def propose(self, round_number: int, index: int) -> dict[str, Any]:
        if index == 0 and round_number > 1:
            return dict(self.best)
        spread = 1.0 / round_number
        out: dict[str, Any] = {}
        for spec in FIELDS:
            out[spec["path"]] = self._draw(spec, spread)
        return out

    def _draw(self, spec: dict[str, Any], spread: float) -> Any:
        centre = self.best[spec["path"]]
        if "choices" in spec:
            return centre if self.rng.random() > spread else self.rng.choice(spec["choices"])
        low, high = float(spec["low"]), float(spec["high"])
        value = float(centre)
        if spec["log"]:
            low, high, value = math.log(low), math.log(high), math.log(value)
        if spread == 1.0:
            value = self.rng.uniform(low, high)
        else:
            value = min(high, max(low, value + self.rng.gauss(0, 0.2 * spread * (high - low))))
        if spec["log"]:
            value = math.exp(value)
        if spec["type"] == "int":
            return min(int(spec["high"]), max(int(spec["low"]), round(value)))
        return min(float(spec["high"]), max(float(spec["low"]), value))

    def error_of(self, config: dict[str, Any]) -> float:
        lr: float = (math.log10(config["training.learning_rate"]) + 2.4) / 1.6
        wd = (math.log10(config["training.weight_decay"]) + 1.5) / 4
        drop = (config["model.dropout"] - 0.4) / 0.5
        size = (math.log2(config["model.channels"]) - 6) / 4
        pool = {"mean": 0.0, "max": 0.03, "last": 0.09}[config["model.pooling"]]
        loss: float = 0.18 + 0.25 * lr**2 + 0.04 * wd**2 + 0.06 * drop**2 + 0.05 * size**2 + pool
        return max(0.02, min(0.98, loss + self.rng.gauss(0, 0.012)))

    def plan(self, round_number: int) -> list[TrialPlan]:
        plans = []
        for index in range(self.per_round if round_number else self.floor):
            search = round_number > 0
            plans.append(
                TrialPlan(
                    search_trial_id(round_number, index)
                    if search
                    else reserve_trial_id(Purpose.FLOOR, index),
                    Purpose.SEARCH if search else Purpose.FLOOR,
                    round_number,
                    index,
                    self.propose(round_number, index) if search else {},
                    1000 * round_number + index,
                    self.idea if search and index % self.idea_every == self.idea_every // 2 else "",
                    "fallback" if search and index % 25 == 24 else "agent",
                )
            )
        return plans

    def run_round(self, number: int, close: bool = True) -> None:
        plans = self.plan(number)
        self.ledger.append(
            "round_planned", {"round": number, "trials": [p.to_dict() for p in plans]}
        )
        token = f"tok{number:02d}"
        self.ledger.append(
            "submit_intended",
            {"token": token, "round": number, "trials": [[p.trial, 1] for p in plans]},
        )
        jobs = {p.trial: f"local-{p.trial}" for p in plans}
        self.ledger.append("submitted", {"token": token, "jobs": jobs})
        done = sum(self.run_trial(plan) for plan in plans)
        if close:
            best = None
            if math.isfinite(self.best_value):
                best = {"trial": self.best_trial, "value": self.best_value}
            self.ledger.append(
                "round_closed",
                {"round": number, "best": best, "done": done, "failed": len(plans) - done},
            )

    def run_trial(self, plan: TrialPlan) -> bool:
        config = {**DEFAULTS, **plan.overrides}
        kind = "none"
        if plan.purpose is Purpose.SEARCH and self.rng.random() < self.fail_share:
            kind = self.rng.choice(["diverged", "user_error", "time_limit", "oom_host"])
        attempt = 1
        if plan.trial == "r01t002":
            self.start(plan, 1)
            self.end(plan, 1, "lost", 3.0)
            self.ledger.append(
                "submit_intended", {"token": "again", "round": 1, "trials": [[plan.trial, 2]]}
            )
            self.ledger.append("submitted", {"token": "again", "jobs": {plan.trial: "local-2"}})
            attempt, kind = 2, "none"
        self.start(plan, attempt)
        self.end(plan, attempt, kind, 6 + self.rng.random() * 8)
        if kind != "none":
            return False
        self.score(plan, attempt, config)
        return True

    def start(self, plan: TrialPlan, attempt: int) -> None:
        self.clock.sleep(1.25)
        folder = self.dir.trial(plan.trial).attempt(attempt)
        folder.root.mkdir(parents=True)
        run = {
            "v": 1,
            "trial": plan.trial,
            "purpose": plan.purpose.value,
            "config": {**DEFAULTS, **plan.overrides},
            "seed": plan.seed,
            "commit": COMMIT,
            "data_fp": DATA_FP,
        }
        self.dir.trial(plan.trial).run_json.write_text(json.dumps(run), encoding="utf-8")
        data = {"trial": plan.trial, "attempt": attempt, "job": f"local-{plan.trial}"}
        self.ledger.append(
            "attempt_started", {**data, "host": "node7", "pid": 4242, "queue_s": 1.25}
        )

    def end(self, plan: TrialPlan, attempt: int, kind: str, seconds: float) -> None:
        files = self.dir.trial(plan.trial).attempt(attempt)
        with files.metrics.open("w", encoding="utf-8") as out:
            for step in range(self.steps):
                t = self.clock.t + seconds * (step + 1) / self.steps
                point = {"step": step, "epoch": step, "t": t, "loss": 1.0 / (step + 1)}
                out.write(json.dumps(point) + "\n")
        last = "x" * 200 if kind == "none" else f"</pre><script>{kind}</script>\x1b[2J"
        files.log.write_text(f"{plan.trial}: trained\n{last}\n", encoding="utf-8")
        self.clock.sleep(seconds)
        data: dict[str, Any] = {
            "trial": plan.trial,
            "attempt": attempt,
            "outcome": "done" if kind == "none" else "failed",
            "kind": kind,
            "seconds": round(seconds, 3),
            "peak_mb": 410.0,
            "cores": 1,
        }
        if kind != "none":
            data["error"] = {"type": "RuntimeError", "text": f"<script>{kind}</script>"}
        self.ledger.append("attempt_ended", data)

    def score(self, plan: TrialPlan, attempt: int, config: dict[str, Any]) -> None:
        error = self.error_of(config)
        subjects = {
            s: round(min(1.0, max(0.0, error + 0.04 * (i - 1) + self.rng.gauss(0, 0.01))), 6)
            for i, s in enumerate(self.subjects)
        }
        metrics = {"val_cer": error, "val_acc": 1 - error, "val_window_err": error / 2 + 0.1}
        metrics = {name: round(value, 6) for name, value in metrics.items()}
        value = metrics[self.metric]
        if value < self.best_value and plan.purpose is Purpose.SEARCH:
            self.best, self.best_value, self.best_trial = config, value, plan.trial
        files = self.dir.trial(plan.trial).attempt(attempt)
        lines = [
            json.dumps({"item": item, "hypothesis": self.rng.choice("KX")}) for item in self.items()
        ]
        body = "\n".join(lines) + "\n"
        files.predictions.write_text(body, encoding="utf-8")
        scores = {"v": 1, "metrics": metrics, "items": []}
        self.dir.trial(plan.trial).scores_json.write_text(json.dumps(scores), encoding="utf-8")
        self.ledger.append(
            "trial_scored",
            {
                "trial": plan.trial,
                "attempt": attempt,
                "metrics": metrics,
                "interval": {
                    "metric": self.metric,
                    "low": round(max(0.0, value - 0.05), 6),
                    "high": round(min(1.0, value + 0.06), 6),
                },
                "per_subject": {s: {self.metric: v} for s, v in subjects.items()},
                "scores_sha": sha256_bytes(json.dumps(scores).encode()),
                "predictions_sha": sha256_bytes(body.encode()),
            },
        )

    def confirm(self, seeds: int = 3) -> None:
        """Freeze the best, open the vault, and score fresh seeds on the test part."""
        number = self.rounds + 1
        overrides = dict(self.best)
        frozen = {"trial": self.best_trial, "round": number, "overrides": overrides, "reason": ""}
        self.ledger.append("champion_frozen", {**frozen, "config_sha": "0" * 64, "count": seeds})
        plans = [
            TrialPlan(f"c{i:03d}", Purpose.CONFIRM, number, i, overrides, 900 + i)
            for i in range(seeds)
        ]
        planned = {"round": number, "trials": [plan.to_dict() for plan in plans]}
        self.ledger.append("round_planned", planned)
        token = {"token": "confirm", "round": number}
        self.ledger.append("submit_intended", {**token, "trials": [[p.trial, 1] for p in plans]})
        self.ledger.append("submitted", {"token": "confirm", "jobs": {}})
        for i, plan in enumerate(plans):
            self.start(plan, 1)
            self.end(plan, 1, "none", 9.0)
            if i == 0:
                opened = {"round": number, "champion": self.best_trial, "opening": 1}
                self.ledger.append("vault_opened", {**opened, "references_sha": "0" * 64})
            value = 0.24 + 0.01 * i
            interval = {"metric": "test_cer", "low": value - 0.05, "high": value + 0.05}
            others = {"test_cer": [value - 0.05, value + 0.05]}
            scores = {"metrics": {"test_cer": value}, "interval": {**interval, "others": others}}
            self.ledger.append("trial_scored", {"trial": plan.trial, "attempt": 1, **scores})
        counts = {"best": None, "done": seeds, "failed": 0}
        self.ledger.append("round_closed", {"round": number, **counts})

    def close(self) -> None:
        self.ledger.append(
            "study_closed",
            {
                "reason": "complete",
                "planned": self.rounds * self.per_round,
                "done": 0,
                "failed": 0,
            },
        )


def build_study(root: Path, **options: Any) -> tuple[StudyDir, Home]:
    """Write a whole study under `root` and return its folder and home."""
    builder = StudyBuilder(Home(root), **options)
    builder.create()
    for number in range(builder.rounds + 1):
        builder.run_round(number)
    builder.close()
    return builder.dir, builder.home
