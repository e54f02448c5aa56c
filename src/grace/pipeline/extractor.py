"""Who turns responses into fields: the rules, a model, or both."""

from dataclasses import dataclass

from grace.catalogue.spec import Catalogue
from grace.errors import UsageError
from grace.extraction.result import RULES
from grace.keys import FILE_SUFFIX, read_key
from grace.pipeline.connection import ModelUse, model_use
from grace.settings import RunSettings
from grace.studies.prompts import PLAIN, Convention, PromptMode

DEEPSEEK = "deepseek"


@dataclass(frozen=True, slots=True)
class ExtractorChoice:
    """
    The extractor of a run.

    Attributes:
        name: `rules`, or the key of the model that is asked.

        rules_first: Whether the rules read first and a model only the rest.

        use: The model; None if the rules work alone.
    """

    name: str
    rules_first: bool
    use: ModelUse | None

    @property
    def label(self) -> str:
        """The extractor as the identity records it."""
        if self.use is None:
            return RULES
        return f"{RULES}+{self.name}" if self.rules_first else self.name

    @property
    def mode(self) -> PromptMode:
        """How the model is prompted."""
        return self.use.mode if self.use is not None else PromptMode.CHAT

    @property
    def convention(self) -> Convention:
        """Where the model's answer begins."""
        return self.use.convention if self.use is not None else PLAIN


def choose_extractor(
    settings: RunSettings, catalogue: Catalogue, *, asked: bool = True
) -> ExtractorChoice:
    """
    Return who extracts.

    `auto` is `rules+deepseek` where DeepSeek's key is set, else `rules`.

    Args:
        settings: The run's settings.

        catalogue: Where the models' entries are.

        asked: Whether a model will be asked, and so needs a key or a server.

    Raises:
        CatalogueError: There is no such model.

        UsageError: The model needs a key that is not set, or a server that is
            not given.
    """
    wanted = settings.extractor
    if wanted == "auto":
        variable = catalogue.get(DEEPSEEK).api_key_env if DEEPSEEK in catalogue.keys else None
        has_key = not settings.dry_run and variable is not None and read_key(variable) is not None
        wanted = f"{RULES}+{DEEPSEEK}" if has_key else RULES
    if wanted == RULES:
        return ExtractorChoice(RULES, rules_first=True, use=None)
    rules_first = wanted.startswith(f"{RULES}+")
    key = wanted.removeprefix(f"{RULES}+")
    spec = catalogue.get(key)
    if not asked:
        return ExtractorChoice(key, rules_first=rules_first, use=model_use(spec))
    if spec.hosted and settings.extractor_endpoint is None:
        variable = spec.api_key_env
        if variable and read_key(variable) is None:
            raise UsageError(
                f"--extractor {key} needs a key: set the environment variable {variable}, or "
                f"{variable}{FILE_SUFFIX} to the path of a file that holds it; or use "
                "--extractor rules"
            )
    elif (
        settings.extractor_endpoint is None
        and spec.server != "llamacpp"
        and not (settings.endpoint is not None and key in settings.model)
    ):
        raise UsageError(
            f"--extractor {key} is served by {spec.server}, which Grace does not start on this "
            "machine; give its address: --extractor-endpoint http://HOST:PORT"
        )
    return ExtractorChoice(key, rules_first=rules_first, use=model_use(spec))
