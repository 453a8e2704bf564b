"""``python -m kws`` is the command line."""

from kws.cli import main

main()
