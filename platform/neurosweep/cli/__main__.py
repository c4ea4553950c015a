"""Run the command line as ``python -m neurosweep.cli``."""

import sys

from neurosweep.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
