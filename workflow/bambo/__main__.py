"""`python -m bambo` is the command `bambo`."""

from .cli import main

main()
