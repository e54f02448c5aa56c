import io
from pathlib import Path

import pytest
from rich.console import Console

from grace.cli import screen
from grace.cli.main import invoke
from grace.cli.screen import ScreenHook
from grace.engine.events import StageCounts
from grace.engine.journal import Record
from grace.engine.plan import QueryKey


def record(*, failed: bool = False) -> Record:
    return Record(
        key=QueryKey("k"),
        stage="respond",
        probe="p",
        status="failed" if failed else "answered",
        value={},
        error_type="",
        error="",
        attempts=1,
        seconds=0.1,
        finished="now",
    )


def told(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    """Let the hook write to a string; the console is the module's, made once at import."""
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=terminal, width=120, color_system=None, soft_wrap=True
    )
    monkeypatch.setattr(screen, "err", console)
    return written


def go_through(hook: ScreenHook) -> None:
    with hook:
        hook.message("toy: connecting")
        hook.stage_started("study1 responses", 4, 1)
        hook.query_retried("study1 responses", "HTTP 503", 2)
        hook.query_finished("study1 responses", record())
        hook.query_finished("study1 responses", record(failed=True))
        hook.stage_finished("study1 responses", StageCounts(4, 2, 1))


def test_a_log_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    written = told(monkeypatch, terminal=False)
    monkeypatch.setattr(screen, "_SECONDS_BETWEEN_LINES", 0.0)
    go_through(ScreenHook())
    lines = written.getvalue().splitlines()
    assert lines[:3] == [
        "toy: connecting",
        "study1 responses: 1 of 4 queries were finished before",
        "study1 responses: attempt 2 after: HTTP 503",
    ]
    assert lines[3].startswith("study1 responses: 2/4 (50%), ")
    assert lines[4].startswith("study1 responses: 3/4 (75%), 1 failed, ")
    assert lines[-1] == "study1 responses: 2 answered, 1 failed, 1 not asked"
    assert "\x1b" not in written.getvalue()


def test_a_log_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    written = told(monkeypatch, terminal=False)
    hook = ScreenHook()
    with hook:
        hook.stage_started("s", 1000, 0)
        for _ in range(1000):
            hook.query_finished("s", record())
    assert len(written.getvalue().splitlines()) == 1


def test_a_terminal_gets_a_bar_with_counts_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    written = told(monkeypatch, terminal=True)
    go_through(ScreenHook())
    last = written.getvalue().replace("\r", "\n")
    assert "study1 responses" in last
    assert "3/4" in last
    assert "1 failed" in last


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"), (0, "0 s")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert screen.duration(seconds) == text


def test_a_value_that_looks_like_markup_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "[red]a[/b].csv"
    assert invoke(["run", "--dry-run", "--input", f"study1={path}", "--out", str(tmp_path)]) == 2
    assert f"error: {path}: no such file" in capsys.readouterr().err


def test_a_value_that_looks_like_an_emoji_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ":x:.csv"
    assert invoke(["run", "--dry-run", "--input", f"study1={path}", "--out", str(tmp_path)]) == 2
    assert f"error: {path}: no such file" in capsys.readouterr().err


def test_a_folder_that_looks_like_markup_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "[red]a[/b]"
    assert invoke(["run", "--dry-run", "--limit", "1", "--out", str(out)]) == 0
    assert invoke(["status", str(out)]) == 0
    assert invoke(["validate", str(out)]) == 0
    assert invoke(["summarise", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
