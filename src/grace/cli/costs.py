"""What a run will cost and what it did cost, side by side in the same words."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from grace.cli.screen import duration, out
from grace.engine.forecast import CHARACTERS_PER_TOKEN, Forecast
from grace.pipeline.forecast import ModelForecast, Rate
from grace.runs.manifest import RunManifest, StageCost


def print_forecasts(
    forecasts: Sequence[ModelForecast], tokens_per_second: float | None = None
) -> None:
    """
    Print what a run will cost each model; estimates are marked with ≈.

    Args:
        forecasts: One for each model.

        tokens_per_second: A speed that the user gave.
    """
    for one in forecasts:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
        table.title = f"forecast for {one.model}"
        table.add_column("study")
        table.add_column("experiment")
        for name in (
            "prompts",
            "prompt\ntokens",
            "of them\ncomputed",
            "generated\nat most",
            "HTTP\nrequests",
            "time",
        ):
            table.add_column(name, justify="right")
        for (study, experiment), forecast in one.stages.items():
            about = "" if forecast.counted else "≈ "
            table.add_row(
                study,
                experiment,
                f"{forecast.prompts:,}",
                f"{about}{forecast.prompt_tokens:,}",
                f"{about}{forecast.computed_tokens:,}",
                f"{forecast.generated_tokens:,}",
                "-" if forecast.requests is None else f"≈ {forecast.requests:,}",
                _time(forecast, experiment, one.rate, tokens_per_second),
            )
        out.print(table)
        _explain(one, tokens_per_second)


def print_costs(manifest: RunManifest) -> None:
    """Print what each stage of a closed run cost, beside what was forecast."""
    if not any(cost.requests for cost in manifest.costs.values()):
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("cost")
    for name in ("prompts", "prompt\ntokens", "of them\ncomputed", "HTTP\nrequests", "time"):
        table.add_column(name, justify="right")
    for name, cost in manifest.costs.items():
        table.add_row(
            name,
            _number(cost.prompts),
            _number(cost.prompt_tokens),
            _number(cost.computed_tokens),
            _number(cost.requests),
            duration(cost.seconds),
        )
        if cost.forecast is not None:
            table.add_row("  forecast", *_forecast_cells(cost), "", style="dim")
    out.print(table)


def _forecast_cells(cost: StageCost) -> tuple[str, ...]:
    forecast = cost.forecast
    if forecast is None:
        return ()
    figures = (
        forecast.prompts,
        forecast.prompt_tokens,
        forecast.computed_tokens,
        forecast.requests,
    )
    return tuple("-" if figure is None else f"≈ {figure:,}" for figure in figures)


def _number(figure: int | None) -> str:
    return "-" if figure is None else f"{figure:,}"


def _time(
    forecast: Forecast, experiment: str, rate: Rate | None, tokens_per_second: float | None
) -> str:
    if tokens_per_second is not None:
        tokens = forecast.computed_tokens
        if experiment == "exp1":
            tokens += forecast.generated_tokens
        return f"≈ {duration(tokens / tokens_per_second)}"
    if rate is None:
        return "-"
    if experiment == "exp1":
        speed, tokens = rate.generated_per_second, forecast.generated_tokens
    else:
        speed, tokens = rate.computed_per_second, forecast.computed_tokens
    return "-" if not speed else f"≈ {duration(tokens / speed)}"


def _explain(one: ModelForecast, tokens_per_second: float | None) -> None:
    cache = (
        "the beginning that a prompt shares with the one before"
        if one.block_size == 1
        else f"beginnings in blocks of {one.block_size} tokens"
    )
    if one.rate is None:
        out.print(
            f"≈ is estimated: {CHARACTERS_PER_TOKEN} characters a token; a {one.dialect} server "
            f"that keeps {cache}. Responses are not in the prompts of later turns. Nothing was "
            "sent. With --measure, the server counts and a few queries are timed.",
            markup=False,
        )
    else:
        speeds = [
            f"{speed:,.0f} tokens {what} a second"
            for speed, what in (
                (one.rate.computed_per_second, "computed"),
                (one.rate.generated_per_second, "generated"),
            )
            if speed
        ]
        out.print(
            f"exp2 is counted by the {one.dialect} server, which keeps {cache}; a short probe, one "
            f"request at a time, found {' and '.join(speeds) or 'no speed'}. What is marked with "
            f"≈ is estimated.",
            markup=False,
        )
    if tokens_per_second is not None:
        out.print(f"Times are at the {tokens_per_second:g} tokens a second that you gave.")
    elif one.rate is None:
        out.print("Times need a speed: --measure, or --tokens-per-second.")
