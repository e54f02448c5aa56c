"""`python -m grace` is `grace`."""

from grace.cli.main import main

main()
