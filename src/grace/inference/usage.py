"""
What requests to a server added up to, as far as requests and replies tell.

Counted where requests are made; read by whoever wants to know what a stage
cost. Nothing is estimated: what a server does not tell stays None.
"""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Usage:
    """
    Running totals.

    Attributes:
        requests: HTTP requests, whatever became of them.

        prompts: Prompts in them that a model was to read.

        prompt_tokens: Tokens of those prompts.

        generated_tokens: Tokens of the responses; one for each scored prompt.

        cached_tokens: Prompt tokens that the server took from its cache, as its
            replies say; None if they never did.
    """

    requests: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    cached_tokens: int | None = None

    def add(
        self, prompts: int, prompt_tokens: int, generated_tokens: int, cached_tokens: int | None
    ) -> None:
        """Add one answered request's figures."""
        self.prompts += prompts
        self.prompt_tokens += prompt_tokens
        self.generated_tokens += generated_tokens
        if cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + cached_tokens

    def copy(self) -> "Usage":
        """Return the totals as they are now."""
        return Usage(**{one.name: getattr(self, one.name) for one in fields(self)})

    def since(self, before: "Usage") -> "Usage":
        """Return what was added since *before* was copied."""
        cached = self.cached_tokens
        return Usage(
            requests=self.requests - before.requests,
            prompts=self.prompts - before.prompts,
            prompt_tokens=self.prompt_tokens - before.prompt_tokens,
            generated_tokens=self.generated_tokens - before.generated_tokens,
            cached_tokens=None if cached is None else cached - (before.cached_tokens or 0),
        )
