"""A cluster in one process that obeys a script: what a real SLURM does to jobs, on demand."""

from neurosweep.testing.slurm.cluster import FakeSlurm
from neurosweep.testing.slurm.script import (
    Answer,
    CommandFault,
    Event,
    FaultScript,
    OldJob,
    TaskFault,
)

__all__ = ["Answer", "CommandFault", "Event", "FakeSlurm", "FaultScript", "OldJob", "TaskFault"]
