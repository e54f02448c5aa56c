"""
Kubernetes objects of a run, made by pure functions from a `ClusterRun`.

Inside, they are the client's own typed objects, which refuse unknown fields and
wrong types. What comes out is plain data, the same for the same run: no clock,
no randomness, no text templates. Nothing here talks to a cluster.
"""

from grace.cluster.manifests.gpus import gpu_option
from grace.cluster.manifests.jobs import driver_objects, endpoint_of, files_objects, step_objects
from grace.cluster.manifests.labels import COMPONENT, MODEL, REACHES, RUN, STEP, Component
from grace.cluster.manifests.model_server import server_objects, weights_objects
from grace.cluster.manifests.plain import Manifest
from grace.cluster.manifests.servers import server_command
from grace.cluster.manifests.setup import setup_objects
from grace.cluster.manifests.storage import upload_folder

__all__ = [
    "COMPONENT",
    "MODEL",
    "REACHES",
    "RUN",
    "STEP",
    "Component",
    "Manifest",
    "driver_objects",
    "endpoint_of",
    "files_objects",
    "gpu_option",
    "server_command",
    "server_objects",
    "setup_objects",
    "step_objects",
    "upload_folder",
    "weights_objects",
]
