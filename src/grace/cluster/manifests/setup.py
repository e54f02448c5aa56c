"""The objects that a run needs before anything is started."""

from grace.cluster.manifests.access import driver_binding, driver_role, service_accounts
from grace.cluster.manifests.namespace import namespace_objects
from grace.cluster.manifests.network import network_policies
from grace.cluster.manifests.plain import Manifest, plain
from grace.cluster.manifests.storage import config_map, input_maps, shared_claims
from grace.cluster.request import ClusterRun


def setup_objects(run: ClusterRun) -> tuple[Manifest, ...]:
    """
    Return namespace, quota, defaults, accounts, policies, claims and ConfigMaps.

    They start nothing and cost nothing but storage. All are needed by pods of
    the run, apart from the Role and its binding, which are for whoever drives
    it: who may not make Roles can leave those out.

    Args:
        run: The run.
    """
    objects = [
        *namespace_objects(run),
        *service_accounts(run),
        driver_role(run),
        driver_binding(run),
        *network_policies(run),
        *shared_claims(run),
        *input_maps(run),
        config_map(run),
    ]
    return tuple(plain(typed) for typed in objects)
