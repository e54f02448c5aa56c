"""
Render what both profiles send for all models that they can serve, and have it scanned.

usage: scan.py CHECKOV. Whatever it finds that deploy/checkov.yaml does not argue is a failure.
Nothing is looked up on a network.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from grace.catalogue.spec import load_catalogue
from grace.cluster.gpus import choose_gpus
from grace.cluster.preparing import prepare_run
from grace.cluster.profile import BUILT_IN, Profile, load_profile
from grace.cluster.render import render_folder
from grace.cluster.request import ClusterRun
from grace.settings import RunSettings

ROOT = Path(__file__).resolve().parents[1]
_NAMESPACE = "my-lab"


def whole_catalogue(profile: Profile) -> ClusterRun:
    """Return a run of every model that a profile can serve."""
    models = (
        spec.key
        for spec in load_catalogue().models
        if not spec.hosted and not choose_gpus(spec, profile).refused
    )
    settings = RunSettings(model=tuple(models))
    return prepare_run(settings, profile, namespace=_NAMESPACE, timestamp="20260131T235959Z")


def main(checkov: str) -> int:
    """Return the scanner's exit code: 0 if it found nothing."""
    worst = 0
    for name in BUILT_IN:
        with tempfile.TemporaryDirectory() as folder:
            run = whole_catalogue(load_profile(name))
            files = render_folder(run, Path(folder))
            sys.stdout.write(f"{name}: {len(run.models)} models, {len(files)} files\n")
            sys.stdout.flush()
            # A home of its own: the scanner reads and writes settings there.
            found = subprocess.run(  # noqa: S603  the scanner, with files of ours
                [checkov, "--config-file", str(ROOT / "deploy/checkov.yaml"), "-d", folder],
                env={"HOME": folder, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                check=False,
            )
            worst = max(worst, found.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
