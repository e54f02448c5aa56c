"""
`grace cluster`: experiments on Kubernetes, from a laptop's kind to a shared GPU cluster.

What the commands do is in the modules beside this one; the optional packages are
imported by those that need them.
"""

import typer

from grace.cli import (
    cluster_checks,
    cluster_drive,
    cluster_driving,
    cluster_logs,
    cluster_profile,
    cluster_results,
)

app = typer.Typer(
    help="Run experiments on a Kubernetes cluster: one on this machine (kind, k3s, minikube), or a "
    "shared one with GPUs.\n\nStart with: grace cluster plan, then grace cluster run",
    no_args_is_help=True,
)
app.command()(cluster_checks.plan)
app.command()(cluster_driving.run)
app.command()(cluster_driving.resume)
app.command()(cluster_results.status)
app.command()(cluster_logs.logs)
app.command("collect")(cluster_results.collect_command)
app.command()(cluster_results.down)
app.command()(cluster_checks.lint)
app.command()(cluster_checks.render)
app.command()(cluster_driving.apply)
app.command(hidden=True)(cluster_drive.drive)
app.add_typer(cluster_profile.app, name="profile")
