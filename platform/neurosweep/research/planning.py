"""Fix a round: who proposes it, what each trial is, and the folders that say so."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurosweep.core.config import set_dotted
from neurosweep.core.errors import StudyError
from neurosweep.core.files import atomic_write_json, canonical_json, read_json, sha256_bytes
from neurosweep.core.layout import StudyDir
from neurosweep.core.provenance import package_root
from neurosweep.core.schema import Schema, Value
from neurosweep.records.ids import reserve_trial_id, search_trial_id
from neurosweep.records.state import StudyState
from neurosweep.records.trial import Purpose, TrialPlan
from neurosweep.research.proposals import Accepted
from neurosweep.research.seeds import training_seed
from neurosweep.workspace.snapshot import verify_snapshot


def floor_plans(state: StudyState, count: int) -> list[TrialPlan]:
    """Plan the unchanged recipe over several seeds: the noise that any gain must exceed."""
    return [reserve_plan(state, Purpose.FLOOR, 0, index, {}) for index in range(count)]


def reserve_plan(
    state: StudyState,
    purpose: Purpose,
    round_number: int,
    index: int,
    overrides: Mapping[str, Value],
) -> TrialPlan:
    """Plan one trial outside the budget of the rounds."""
    seed = training_seed(study_seed(state), purpose.value, round_number, index)
    trial = reserve_trial_id(purpose, index)
    return TrialPlan(trial, purpose, round_number, index, dict(overrides), seed, source="default")


def search_plans(
    state: StudyState, round_number: int, first: int, accepted: Sequence[Accepted]
) -> list[TrialPlan]:
    """Plan search trials of a round, from the place `first` on."""
    return [
        TrialPlan(
            trial=search_trial_id(round_number, index),
            purpose=Purpose.SEARCH,
            round=round_number,
            index=index,
            overrides=item.config,
            seed=training_seed(study_seed(state), Purpose.SEARCH.value, round_number, index),
            idea=item.idea,
            source=item.source,
        )
        for index, item in enumerate(accepted, first)
    ]


def study_seed(state: StudyState) -> int:
    """Return the seed from which all randomness of the study follows."""
    return int(state.spec.get("seed", 0))


def full_config(base: Mapping[str, Any], overrides: Mapping[str, Value]) -> dict[str, Any]:
    """Return the whole configuration with dotted overrides set."""
    config = copy.deepcopy(dict(base))
    for path, value in overrides.items():
        set_dotted(config, path, value)
    return config


class RunFolders:
    """Write the folder of every trial of a study: what its job is to run.

    Parameters
    ----------
    study
        Folder of the study.
    created
        Data of its ``study_created`` event.
    """

    def __init__(self, study: StudyDir, created: Mapping[str, Any]) -> None:
        self._study = study
        self._created = created

    @property
    def code_root(self) -> Path | None:
        """Source root of the study's snapshot; None when jobs run installed code."""
        return self._study.root / self._created["code"]["root"] if self._has_snapshot else None

    @property
    def _has_snapshot(self) -> bool:
        return bool(self._created["code"]["root"])

    def schema(self) -> Schema:
        """Return the frozen fields that the study searches.

        Raises
        ------
        StudyError
            When the file is not the one that was frozen.
        """
        data = read_json(self._study.schema_json)
        if sha256_bytes(canonical_json(data).encode()) != self._created["schema_sha"]:
            msg = (
                f"{self._study.schema_json}: is not the schema that the study was made with; "
                "restore it, or make a new study to search other ranges"
            )
            raise StudyError(msg)
        return Schema.from_json(data)

    def verify_code(self) -> None:
        """Refuse to go on with other code than the study was made with.

        Raises
        ------
        WrongCodeError
            When files of the snapshot were changed, added or removed.
        """
        if self.code_root is not None:
            verify_snapshot(self.code_root, self._created["code"]["sha"])

    def write(self, plan: TrialPlan, *, stores: Sequence[str] | None = None) -> bool:
        """Write a trial's run.json unless it is there; return whether it was written.

        Parameters
        ----------
        plan
            The trial.
        stores
            Store folders of a confirmation, relative to the home; None for the study's own.
        """
        files = self._study.trial(plan.trial)
        if files.run_json.exists():
            return False
        files.root.mkdir(parents=True, exist_ok=True)
        atomic_write_json(files.run_json, self.run_data(plan, stores))
        return True

    def run_data(self, plan: TrialPlan, stores: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the content of a trial's run.json."""
        created = self._created
        data_info = created["data_info"]
        return {
            "v": 1,
            "trial": plan.trial,
            "purpose": plan.purpose.value,
            "round": plan.round,
            "entry": created["entry"],
            "config": full_config(created["config"], plan.overrides),
            "seed": plan.seed,
            "commit": created["commit"],
            "diff_sha": created["diff_sha"],
            "data_fp": created["data_fp"],
            "stores": list(data_info["stores"] if stores is None else stores),
            "part": "val" if stores is None else "test",
            "code_roots": self._code_roots(),
            "items_sha": data_info.get("items_sha", ""),
            "limits": self._limits(),
        }

    def _code_roots(self) -> dict[str, str]:
        roots = {"neurosweep": str(package_root("neurosweep"))}
        if self.code_root is not None:
            roots[self._created["code"]["package"]] = str(self.code_root)
        return roots

    def _limits(self) -> dict[str, Any]:
        spec = self._created["spec"]
        return {
            "timeout_s": spec["budget"]["trial_minutes"] * 60.0,
            "stall_s": spec["execution"]["stall_minutes"] * 60.0,
            "memory_mb": spec["execution"]["memory_mb"],
            "threads": 1,
        }


def read_plans(study: StudyDir, number: int, first: int | None) -> dict[str, Any] | None:
    """Return plans that were fixed on disk, or None.

    Parameters
    ----------
    study
        Folder of the study.
    number
        Round.
    first
        Place in the round of the first of them; None for a round that is planned as a whole.
    """
    path = _plans_file(study, number, first)
    if not path.exists():
        return None
    data: dict[str, Any] = read_json(path)
    return data


def write_plans(
    study: StudyDir,
    number: int,
    first: int | None,
    plans: Sequence[TrialPlan],
    turn: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Fix plans on disk before anything is done with them; return what was written.

    A driver that dies from here on goes on with these trials: the agent is not asked again.
    """
    study.round(number).mkdir(parents=True, exist_ok=True)
    data = {
        "v": 1,
        "round": number,
        "turn": None if turn is None else dict(turn),
        "trials": [plan.to_dict() for plan in plans],
    }
    atomic_write_json(_plans_file(study, number, first), data)
    return data


def _plans_file(study: StudyDir, number: int, first: int | None) -> Path:
    name = "round.json" if first is None else f"from-{first:03d}.json"
    return study.round(number) / name
