"""The command line: ``python -m bgadapters check TARGET``."""

import sys

from bgadapters.check.command import main

if __name__ == "__main__":
    sys.exit(main())
