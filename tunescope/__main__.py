"""`python -m tunescope` is the `tunescope` command."""

from tunescope.cli import main

main()
