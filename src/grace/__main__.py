"""
The command's first lines: `grace`, or `python -m grace`.

Importing takes a moment. Whoever presses Ctrl-C in it gets a quiet end as well.
"""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
STOPPED = 3


def main() -> None:
    """Run the command line and exit."""
    if os.getpid() == 1:
        # The first process of a container ignores SIGTERM unless it has a handler: a download
        # would go on until it is killed. Commands that drain have handlers of their own.
        signal.signal(signal.SIGTERM, _stop)
    try:
        if sys.argv[1:2] == ["files"]:
            # It runs once for each file, and needs nothing of what the others import.
            from grace.cli.files import main as run
        else:
            from grace.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(STOPPED)


if __name__ == "__main__":
    main()
