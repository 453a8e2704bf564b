"""The command ``kws``, also ``python -m kws``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, which takes a moment to import."""
    try:
        from kws.cli import main as command_line
    except KeyboardInterrupt:
        print("kws: interrupted", file=sys.stderr)
        exec("")  # for the status, as in `kws.cli`
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()
