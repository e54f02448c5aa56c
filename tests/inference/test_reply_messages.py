"""What a server says ends up in messages, which are cut."""

import pytest
from fake_server import chat_reply

from grace.errors import BadReply, IdentityMismatch, UsageError
from grace.inference.reply import SameModel, chat_generation, choose_model

LONG = "x" * 1_000_000


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(BadReply) as caught:
        chat_generation(chat_reply("Yes.", LONG), "server")
    assert len(str(caught.value)) < 300


def test_long_names_of_models_are_cut() -> None:
    with pytest.raises(UsageError) as caught:
        choose_model("tiny", [LONG] * 30, "server")
    assert len(str(caught.value)) < 4_000


@pytest.mark.parametrize("asked", ["tiny", None])
def test_names_of_models_cannot_move_the_cursor(asked: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        choose_model(asked, ["\x1b[31mred", "\0"], "server")
    assert str(caught.value).isprintable()


def test_the_name_of_another_model_is_cut() -> None:
    same = SameModel()
    same.check({"model": "tiny"}, "server")
    with pytest.raises(IdentityMismatch) as caught:
        same.check({"model": LONG}, "server")
    assert len(str(caught.value)) < 400
