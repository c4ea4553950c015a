"""SIGKILL of the driver of a study on a real SLURM: exactly the budget, none lost, none twice."""

from pathlib import Path

import pytest
from _kill_kit import assert_exact, kill_often, num_lines, round_of
from _slurm_kit import write_profile

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("own_cluster"), pytest.mark.timeout(240)]


def test_five_kills_in_a_round_of_fifty_change_nothing(tmp_path: Path) -> None:
    study, calm = round_of(tmp_path, trials=50)
    kill_often(study, write_profile(tmp_path), kills=5, last_line=num_lines(calm), seed=50)
    assert_exact(study, calm)
