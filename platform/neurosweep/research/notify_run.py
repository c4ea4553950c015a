"""Run one command of a shell and end it, with all its processes, after a time limit.

Run as a file of its own by `neurosweep.research.notify`, so that the limit holds even when the
driver that started it is gone: ``notify_run.py SECONDS SHELL COMMAND``. Exit code 124 says that
the limit has passed.
"""

import os
import signal
import subprocess
import sys


def main(limit_s: float, shell: str, command: str) -> int:
    """Run the command and return its exit code."""
    process = subprocess.Popen([shell, "-c", command], start_new_session=True)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        sys.stderr.write(f"ended after {limit_s:g} s: {command[:200]}\n")
        return 124
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3]))
