"""A round of 50 trials on SLURM whose driver is killed 50 times: about 3 minutes on two cores.

Every kill is a SIGKILL at a random moment, by the ledger or by the clock, two of them around the
submission. The round must end with exactly 50 outcomes, no trial run twice to its end, one array
submitted, and the canonical export of an undisturbed round::

    python tests/bench/bench_slurm_kills.py --kills 50 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from _devcluster import development_cluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _kill_kit import assert_exact, kill_often, num_lines, round_of

_LIFE_S = 2.5


def main() -> int:
    """Run the bench; a bound that is broken raises."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=14.0, help="work of a trial")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with development_cluster():
        for number in range(args.rounds):
            with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
                folder = Path(name)
                folder.chmod(0o755)
                profile = folder / "cluster.toml"
                profile.write_text('partition = "main"\nmem_gb = 0.5\npoll_s = 0.5\n')
                study, calm = round_of(folder, args.trials, args.seconds)
                last_line, seed = num_lines(calm), args.seed + number
                on = f"slurm:{profile}"
                seconds = kill_often(study, on, args.kills, last_line, seed, life_s=_LIFE_S)
                assert_exact(study, calm)
                told = {"round": number, "kills": args.kills, "trials": args.trials}
                print(json.dumps(told | {"seconds": round(seconds, 1), "exact": True}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
