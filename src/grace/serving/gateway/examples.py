"""Requests that work on every model, for the OpenAPI document."""

from typing import Final

from fastapi.openapi.models import Example

REQUEST_EXAMPLES: Final[dict[str, Example]] = {
    "chat": {
        "summary": "A question with two answers, each in two spellings",
        "value": {
            "messages": [
                {"role": "user", "content": "Is the sky blue? Answer with yes or no."},
            ],
            "candidates": [
                {"label": "yes", "forms": ["yes", "Yes"]},
                {"label": "no", "forms": ["no", "No"]},
            ],
        },
    },
    "scale": {
        "summary": "A scale, with mean and standard deviation",
        "value": {
            "messages": [
                {
                    "role": "user",
                    "content": "How likely is rain tomorrow? Answer with a percentage.",
                }
            ],
            "candidates": [
                {"label": "0%", "value": 0},
                {"label": "50%", "value": 50},
                {"label": "100%", "value": 100},
            ],
        },
    },
    "completion": {
        "summary": "What follows a text",
        "value": {
            "prompt": "The capital of France is",
            "candidates": ["Paris", "London"],
        },
    },
}
