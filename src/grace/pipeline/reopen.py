"""Finding a run's inputs again from its folder, to check or summarise it."""

from grace.engine.plan import QueryKey, plan_responses, plan_scores
from grace.errors import RunFolderError
from grace.pipeline.closing import response_keys, score_keys
from grace.pipeline.inputs import load_inputs
from grace.runs.folder import RunFolder, RunRecord
from grace.settings import RunSettings
from grace.studies.trials import TrialSet


def inputs_of(folder: RunFolder, record: RunRecord) -> tuple[TrialSet, ...]:
    """
    Load the inputs that a run was made from, and check that they are the same.

    Raises:
        RunFolderError: An input or a study was changed since.

        UsageError: An input is gone or has faults.
    """
    inputs = load_inputs(record.request)
    for trials in inputs:
        recorded = record.identity.studies.get(trials.study.key)
        if recorded is None:
            raise RunFolderError(f"{folder.path}: run.json does not name {trials.study.key}")
        if trials.sha256 != recorded.input_sha256:
            raise RunFolderError(
                f"{folder.path}: {trials.source} has changed since the run; put back the file "
                f"whose SHA-256 is {recorded.input_sha256}"
            )
        if trials.study.definition_sha256() != recorded.definition_sha256:
            raise RunFolderError(
                f"{folder.path}: the definition of {trials.study.key} has changed since the run; "
                "use the version of Grace, or of the study's file, that made it"
            )
    return inputs


def planned_keys(
    folder: RunFolder, trials: TrialSet, settings: RunSettings
) -> dict[str, list[QueryKey]]:
    """Return the keys of a run's queries by probe."""
    if folder.experiment == "exp2":
        return score_keys(plan_scores(trials))
    return response_keys(
        plan_responses(
            trials,
            seed=settings.seed,
            replicates=settings.replicates,
            deterministic=settings.temperature == 0,
        )
    )
