"""``python -m opcount`` is the ``opcount`` command."""

import sys

from opcount.cli import run

if __name__ == "__main__":
    sys.exit(run())
