"""
Whether a cluster can serve the models of a run, as far as that is known without it.

Capacity and the site's rules are looked at elsewhere; this is about models that
no pod could ever ask: of a server that is nobody's, with weights that are on the
user's machine, or behind a key that the cluster does not have.
"""

from collections.abc import Iterator, Sequence

from grace.catalogue.fields import FileWeights
from grace.catalogue.spec import Catalogue, ModelSpec
from grace.cluster.profile import Profile
from grace.pipeline.extractor import DEEPSEEK
from grace.settings import RunSettings


def model_faults(
    settings: RunSettings, specs: Sequence[ModelSpec], catalogue: Catalogue, profile: Profile
) -> Iterator[str]:
    """
    Yield what is wrong with models on a cluster, one line each.

    Args:
        settings: The run's settings.

        specs: Its models, with the one that extracts and the bases of adapters.

        catalogue: All models that are known.

        profile: The cluster.
    """
    for spec in specs:
        if spec.hosted:
            yield from _hosted_faults(settings, spec, catalogue, profile)
        else:
            yield from _served_faults(spec, profile)


def cautions(specs: Sequence[ModelSpec]) -> Iterator[str]:
    """Yield of which models other weights may be served tomorrow."""
    for spec in specs:
        if not spec.hosted and not spec.pinned:
            yield (
                f"{spec.key}: no commit is locked, so that the hub's newest state is taken; "
                f"`grace models lock {spec.key}` locks it"
            )


def _hosted_faults(
    settings: RunSettings, spec: ModelSpec, catalogue: Catalogue, profile: Profile
) -> Iterator[str]:
    asked = spec.key in settings.model
    if asked and settings.endpoint is None and "exp2" in settings.experiment:
        yield (
            f"{spec.key}: is hosted, and hosted models give no exact probabilities, which exp2 "
            "needs; ask it alone, with --experiment exp1"
        )
    variable = spec.api_key_env
    if variable is None or (asked and settings.endpoint is not None):
        return
    deepseek = catalogue.get(DEEPSEEK).api_key_env if DEEPSEEK in catalogue.keys else None
    if variable != deepseek:
        yield (
            f"{spec.key}: needs the key {variable}; pods can be given that of {DEEPSEEK} only "
            f"({deepseek}); leave the model out"
        )
    elif profile.secrets.deepseek is None:
        yield (
            f"{spec.key}: needs the key {variable}, and the profile {profile.name} names no Secret "
            f"that holds it; make one (kubectl create secret generic grace-deepseek "
            f"--from-literal={variable}=...) and name it in a profile of your own: "
            f"`secrets: {{deepseek: {{name: grace-deepseek, key: {variable}}}}}`"
        )


def _served_faults(spec: ModelSpec, profile: Profile) -> Iterator[str]:
    if spec.server == "openai":
        yield (
            f"{spec.key}: is catalogued with the server 'openai' and no endpoint, which Grace "
            "does not start; give its entry a server: vllm, tgi or llamacpp"
        )
        return
    baked = spec.key in profile.images.baked_weights and spec.server == "llamacpp"
    if isinstance(spec.weights, FileWeights) and not baked:
        yield (
            f"{spec.key}: its weights are on this machine ({spec.weights.uri}), where pods cannot "
            "read them; put them on the hub, or into the image llamacpp and name the model in "
            "images.baked_weights of your profile"
        )
    if spec.gpus and not profile.gpus.products:
        options = " or ".join(str(option) for option in spec.gpus)
        yield (
            f"{spec.key}: needs {options}, and the profile {profile.name} has no GPUs; choose a "
            "model that runs on CPUs, such as smollm2-135m, or another --profile"
        )
    if spec.gated and not baked and profile.secrets.hub_token is None:
        yield (
            f"{spec.key}: is gated, and the profile {profile.name} names no Secret with the hub's "
            "token; make one (kubectl create secret generic grace-hub --from-literal=HF_TOKEN=...) "
            "and name it in a profile of your own: "
            "`secrets: {hub_token: {name: grace-hub, key: HF_TOKEN}}`"
        )
