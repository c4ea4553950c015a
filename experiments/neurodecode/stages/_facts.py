"""What each stage uses of a configuration, and which code and weights decide what it makes."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from neurodecode.config import LlmRecipe
from neurodecode.llm.backend import weights_sha
from neurodecode.llm.encoders import code_of
from neurodecode.recipe import load_recipe
from neurosweep.core.errors import ConfigError
from neurosweep.core.files import sha256_file
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.plugins import near_misses

_ENCODER_CODE = (
    *("jobs/encoder.py", "jobs/folds.py", "layers/*.py", "models/**/*.py", "training/*.py"),
    *("losses/ctc.py", "decoding/alphabet.py", "decoding/config.py", "decoding/ctc.py"),
    *("contracts.py", "stages/_given.py"),
)
_LLM_CODE = (
    *("jobs/llm.py", "jobs/folds.py", "llm/*.py", "llm/backends/*.py", "training/*.py"),
    *("losses/siglip.py", "decoding/*.py", "contracts.py", "stages/_given.py"),
)
_LLM_PACKAGES = ("numpy", "peft", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class StageFacts:
    """Say what decides what a stage makes.

    Attributes
    ----------
    uses
        Dotted parts of the configuration; the job is given no other.
    code
        Patterns of files of this package.
    packages
        Installed packages whose versions matter.
    language_model
        Whether the weights of the language model matter.
    warm
        Modules that a warm worker imports first.
    """

    uses: tuple[str, ...]
    code: tuple[str, ...]
    packages: tuple[str, ...]
    language_model: bool = False
    warm: tuple[str, ...] = ("torch",)


_BACKEND = ("llm.backend", "llm.folder", "llm.device")
_LLM_WARM = ("torch", "transformers", "peft")

STAGES: Mapping[str, StageFacts] = {
    "encoder": StageFacts(
        ("model", "training"), (*_ENCODER_CODE, "stages/encoder.py"), ("numpy", "torch")
    ),
    "encoder_without": StageFacts(
        ("model", "training", "encoder.cross_fit"),
        (*_ENCODER_CODE, "stages/encoder_without.py", "llm/reading_parts.py"),
        ("numpy", "torch"),
    ),
    "features": StageFacts(
        ("projector", "encoder.seed", "encoder.cross_fit", "training.device", *_BACKEND),
        (*_ENCODER_CODE, *_LLM_CODE, "stages/features.py"),
        (*_LLM_PACKAGES, "jiwer", "rapidfuzz"),
        language_model=True,
        warm=_LLM_WARM,
    ),
    "lora": StageFacts(
        ("llm", "decoding"),
        (*_LLM_CODE, "stages/lora.py"),
        _LLM_PACKAGES,
        language_model=True,
        warm=_LLM_WARM,
    ),
    "soup": StageFacts((), ("llm/soup.py", "stages/soup.py"), ("torch",)),
    "decode": StageFacts(
        ("llm.meg_tokens", "decoding", *_BACKEND),
        (*_LLM_CODE, "stages/decode.py"),
        _LLM_PACKAGES,
        language_model=True,
        warm=_LLM_WARM,
    ),
}


def describe_stages(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the stages of a pipeline.

    Parameters
    ----------
    payload
        ``recipe``; ``set``, what all stages change of it; and ``stages``, name to ``job`` and to
        ``set``, what it changes in all.

    Returns
    -------
    dict
        ``config`` of the recipe, and ``stages``: name to ``entry``, ``config``, ``code``, and,
        where the job is one of this package's stages, ``uses`` and ``warm``.

    Raises
    ------
    ConfigError
        When the recipe, a value or a stage is wrong.
    """
    config = load_recipe(str(payload["recipe"]), payload.get("set")).config
    stages = {
        name: _describe(
            name, str(asked["job"]), load_recipe(payload["recipe"], asked["set"]).config
        )
        for name, asked in payload["stages"].items()
    }
    return {"config": config.model_dump(mode="json"), "stages": stages}


def _describe(name: str, job: str, config: Any) -> dict[str, Any]:
    whole = {"config": config.model_dump(mode="json")}
    if ":" in job:
        return whole | {"entry": job, "code": _code_of_module(name, job.partition(":")[0])}
    if job not in STAGES:
        known = ", ".join(STAGES)
        msg = f"stages.{name}.job: no stage '{job}'{near_misses(job, STAGES)}; there are {known},"
        raise ConfigError(f"{msg} evaluate, or package.module:function")
    if not isinstance(config, LlmRecipe):
        msg = f"stages.{name}: '{job}' needs a recipe of stage 'llm', such as sentences_llm"
        raise ConfigError(msg)
    facts = STAGES[job]
    decisive: dict[str, Any] = {
        "code": code_of(facts.code),
        "packages": {package: metadata.version(package) for package in facts.packages},
    }
    if facts.language_model:
        decisive["weights"] = weights_sha(config.llm)
    module = f"neurodecode.stages.{job}"
    return whole | {
        "entry": f"{module}:run",
        "uses": list(facts.uses),
        "code": fingerprint(decisive, 32),
        "warm": [*facts.warm, module],
    }


def _code_of_module(name: str, module: str) -> str:
    """Return a name for the code of a job that is none of this package's stages."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        msg = f"stages.{name}.job: there is no module '{module}' in this environment"
        raise ConfigError(msg)
    return fingerprint({"module": sha256_file(Path(spec.origin)), "all": code_of(("**/*.py",))}, 32)
