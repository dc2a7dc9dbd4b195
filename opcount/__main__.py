"""The ``opcount`` command, as ``python -m opcount``."""

import sys

from opcount.cli import run

if __name__ == "__main__":
    sys.exit(run())
