"""
The command's first lines: `grace`, or `python -m grace`.

Importing takes a moment. Whoever presses Ctrl-C in it gets a quiet end as well.
"""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    try:
        if sys.argv[1:2] == ["files"]:
            # It runs once for each file, and needs nothing of what the others import.
            from grace.cli.files import main as run
        else:
            from grace.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
