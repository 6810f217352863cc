"""The command line: ``python -m bgadapters check TARGET`` and ``python -m bgadapters tasks``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bgadapters.check import command as check
from bgadapters.stores import command as tasks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code. Wrong usage exits with 2."""
    parser = argparse.ArgumentParser(prog="python -m bgadapters")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands")
    check.add_to(commands)
    tasks.add_to(commands)
    given = parser.parse_args(arguments)
    if given.run is None:
        parser.print_help()
        return 0
    code: int = given.run(given)
    return code


if __name__ == "__main__":
    sys.exit(main())
