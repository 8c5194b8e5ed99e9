"""`python -m vbayes`."""

from .cli import main

main()
