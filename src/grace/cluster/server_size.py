"""What a model's server asks for: one answer for manifests and for the plan of capacity."""

from grace.catalogue.model import ModelSpec
from grace.cluster.profile import Profile, Resources

# Compiled kernels and other caches, which servers on GPUs write as they start.
_GPU_EPHEMERAL_GB = 20.0
_CPU_EPHEMERAL_GB = 1.0


def server_resources(spec: ModelSpec, profile: Profile) -> Resources:
    """Return what one pod of a model's server asks for, apart from GPUs."""
    own = profile.model_servers.cpu_resources
    if not spec.gpus and own is not None:
        return own
    return Resources(
        cpu=float(spec.cpu),
        memory_gb=spec.memory_gb,
        ephemeral_gb=_GPU_EPHEMERAL_GB if spec.gpus else _CPU_EPHEMERAL_GB,
    )
