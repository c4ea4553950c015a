"""A finished study of whole sentences, with what the decoder says at every stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _study_builder import DATA_FP, StudyBuilder

from neurosweep.core.files import canonical_json, sha256_bytes
from neurosweep.core.layout import Home, StudyDir
from neurosweep.evaluation.prediction_lines import Prediction
from neurosweep.evaluation.references import read_references
from neurosweep.evaluation.score import score
from neurosweep.records.trial import Purpose, TrialPlan

SENTENCES = (
    "the boat left the harbour before dawn",
    "she kept a small garden behind the house",
    "rain fell on the roof all night",
    "they walked slowly along the river",
    "my brother sold his old bicycle",
    "the teacher opened the window",
    "we waited an hour for the train",
    "a dog slept under the wooden table",
    "the letter arrived three weeks late",
    "nobody heard the bell ring twice",
    "he painted the fence a dark green",
    "the children ran across the field",
    "our neighbour plays the piano badly",
    "snow covered the road to the village",
    "the soup was too hot to eat",
    "she never forgot the smell of bread",
)
_NEIGHBOURS = "qwertyuiopasdfghjklzxcvbnm"
_FILLERS = ("of", "the", "an", "very", "it")


class SentenceStudy(StudyBuilder):
    """Build a study of the language-model stage; the best word error rate wins."""

    repeats: int = 2

    def items(self) -> list[str]:
        count = len(SENTENCES) * self.repeats
        return [f"{subject}/run1/t{i:02d}" for subject in self.subjects for i in range(count)]

    def reference(self, item: str) -> str:
        return SENTENCES[int(item[-2:]) % len(SENTENCES)]

    def create(self) -> None:
        super().create()
        rows = [
            {
                "item": i,
                "subject": i[:3],
                "reference": self.reference(i),
                "typed": self.reference(i),
            }
            for i in self.items()
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self.references.write_text(text, encoding="utf-8")

    @property
    def references(self) -> Path:
        return self.home.secret(DATA_FP) / "val_refs.jsonl"

    def _created(self) -> dict[str, Any]:
        created = super()._created()
        created["spec"] |= {"name": "sentences", "recipe": "sentences_llm", "stage": "llm"}
        created["data_info"]["chance"] = {"val_wer": 0.97, "val_cer": 0.83}
        created["data_info"]["secret"] = str(self.home.secret(DATA_FP).relative_to(self.home.root))
        return created

    def spoil(self, text: str, rate: float) -> str:
        """Return a sentence with about so many of its words wrong, lost or added."""
        words = []
        for word in text.split():
            draw = self.rng.random() / max(rate, 1e-9)
            if draw < 0.65:
                place = self.rng.randrange(len(word))
                word = word[:place] + self.rng.choice(_NEIGHBOURS) + word[place + 1 :]
            elif draw < 0.8:
                continue
            elif draw < 1.0:
                words.append(self.rng.choice(_FILLERS))
            words.append(word)
        return " ".join(words)

    def prediction(self, item: str, rate: float) -> dict[str, Any]:
        text = self.reference(item)
        greedy = self.spoil(text, 1.5 * rate)
        hypothesis = text if self.rng.random() < 0.25 else self.spoil(text, rate)
        variants = {"greedy": greedy, "no_meg": self.spoil(text, 1.2 * rate)}
        return {"item": item, "hypothesis": hypothesis, "logp": -1.5, "variants": variants}

    def score(self, plan: TrialPlan, attempt: int, config: dict[str, Any]) -> None:
        rate = self.error_of(config)
        files = self.dir.trial(plan.trial).attempt(attempt)
        lines = [self.prediction(item, rate) for item in self.items()]
        body = "".join(canonical_json(line) + "\n" for line in lines)
        files.predictions.write_text(body, encoding="utf-8")
        given = {
            line["item"]: Prediction(line["item"], line["hypothesis"], variants=line["variants"])
            for line in lines
        }
        scores = score(given, read_references(self.references), seed=plan.seed)
        data = canonical_json(scores.to_dict() | {"predictions_sha": sha256_bytes(body.encode())})
        self.dir.trial(plan.trial).scores_json.write_text(data + "\n", encoding="utf-8")
        value = scores.metrics[self.metric]
        if value < self.best_value and plan.purpose is Purpose.SEARCH:
            self.best, self.best_value, self.best_trial = config, value, plan.trial
        self.ledger.append(
            "trial_scored",
            {
                "trial": plan.trial,
                "attempt": attempt,
                "metrics": dict(scores.metrics),
                "interval": scores.interval(self.metric),
                "per_subject": {s: dict(means) for s, means in scores.per_subject.items()},
                "scores_sha": sha256_bytes(f"{data}\n".encode()),
                "predictions_sha": sha256_bytes(body.encode()),
            },
        )


def build_sentence_study(root: Path, **options: Any) -> tuple[StudyDir, SentenceStudy]:
    """Write a small finished study of sentences under a new home."""
    sizes = {"rounds": 1, "per_round": 10, "floor": 3, "subjects": ("S01",), "metric": "val_wer"}
    builder = SentenceStudy(Home(root), **(sizes | options))
    builder.create()
    for number in range(builder.rounds + 1):
        builder.run_round(number)
    builder.close()
    return builder.dir, builder
