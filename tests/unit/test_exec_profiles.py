"""Cluster profiles are found by name or path, and say every problem at once."""

from pathlib import Path

import pytest

from neurosweep.core.errors import ConfigError
from neurosweep.exec.profiles import Profile, find_profile, load_profile

REPO = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((REPO / "slurm/profiles").glob("*.toml")), ids=str)
def test_shipped_profiles_are_valid(path: Path) -> None:
    assert isinstance(load_profile(str(path)), Profile)


def test_unknown_name_lists_known_ones(tmp_path: Path) -> None:
    (tmp_path / "jean.toml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no cluster profile 'zay'.*known: jean"):
        find_profile("zay", [tmp_path])
    assert find_profile("jean", [tmp_path]) == tmp_path / "jean.toml"


def test_no_name_says_how() -> None:
    with pytest.raises(ConfigError, match="needs a profile"):
        find_profile(None, [])


def test_every_problem_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('partiton = "gpu"\ncores = 0\npoll_s = "soon"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="3 problems") as caught:
        load_profile(str(path))
    assert "did you mean 'partition'" in str(caught.value)


def test_options_that_neurosweep_sets_itself_are_refused() -> None:
    for name, reason in {
        "array": "set by neurosweep",
        "job-name": "set by neurosweep",
        "nodes": "set by neurosweep",
        "ntasks": "set by neurosweep",
        "clusters": "set by neurosweep",
        "p": "short form",
        "part": "short form",
        "clus": "short form",
        "--nice": "without dashes before",
        "cpus_per_gpu": "with dashes inside",
    }.items():
        with pytest.raises(ValueError, match=reason):
            Profile(sbatch={name: "1"})
    with pytest.raises(ValueError, match="one line"):
        Profile(sbatch={"comment": "a\n#SBATCH --array=0-9"})
    assert Profile(sbatch={"nice": 5, "exclusive": False}).sbatch == {"nice": 5}


def test_values_that_sbatch_would_misread_are_refused() -> None:
    with pytest.raises(ValueError, match="relative"):
        Profile(slots_file="slots.json")
    assert Profile(slots_file="~/slots.json").slots_file == "~/slots.json"
    for name in ("partition", "account", "exclude"):
        with pytest.raises(ValueError, match="leave the key out"):
            Profile(**{name: " "})
