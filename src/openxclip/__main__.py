"""`python -m openxclip` is the command."""

from openxclip.cli.main import main

main()
