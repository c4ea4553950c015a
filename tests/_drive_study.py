"""Run the driver of a study in a process of its own: ``_drive_study.py STUDY_DIR WORKERS [ON]``."""

from __future__ import annotations

import sys
from pathlib import Path

from neurosweep.core.layout import StudyDir
from neurosweep.research.placing import Pace
from neurosweep.research.setup import build_driver

if __name__ == "__main__":
    driver = build_driver(
        StudyDir(Path(sys.argv[1])),
        on=sys.argv[3] if len(sys.argv) > 3 else "local",
        workers=int(sys.argv[2]),
        pace=Pace(poll_s=0.05),
    )
    result = driver.run()
    sys.exit(0 if result.state == "complete" else 1)
