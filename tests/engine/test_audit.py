import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from grace.engine.audit import Audit, audited, read_audit
from grace.errors import BadReply, CorruptJournal
from grace.inference.client import Capabilities, Rendered
from grace.inference.toy import ToyClient
from grace.studies.prompts import Message, Prompt

CHAT = Prompt((Message("user", "Wie geht's?"),))
TEXT = Prompt(text="Question: so?\nAnswer:")


class Blind(ToyClient):
    """A server that shows no tokens."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            token_ids=False, next_token=False, sequence=False, json_schema=False, seed=True
        )


class Mute(ToyClient):
    """A server that cannot render."""

    async def render(self, prompt: Prompt) -> Rendered:
        raise BadReply("no")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_prompts_are_written_once_with_text_and_tokens(tmp_path: Path) -> None:
    toy = ToyClient()
    with Audit(tmp_path / "audit", "respond") as audit:
        await asyncio.gather(*(audit.note(toy, CHAT, "prior") for _ in range(5)))
        await audit.note(toy, TEXT, "speech")
    chat, text = read_audit(tmp_path / "audit")
    assert (chat.prompt_sha256, chat.stage, chat.probe) == (CHAT.sha256(), "respond", "prior")
    assert (chat.messages, chat.text) == ([["user", "Wie geht's?"]], None)
    assert chat.rendered == "<|user|>Wie geht's?<|end|><|assistant|>"
    assert chat.token_ids == list((await toy.render(CHAT)).token_ids)
    assert (text.messages, text.text, text.rendered) == (None, TEXT.text, TEXT.text)
    assert chat.answer_prefix == ""


async def test_a_prefix_is_rendered_only_where_it_is_known_to_be_sent(tmp_path: Path) -> None:
    toy, prompt = ToyClient(), replace(CHAT, answer_prefix="Answer:")
    with Audit(tmp_path / "scored", "score") as audit:
        await audit.note(toy, prompt, "a", (await toy.render(prompt)).token_ids)
    with Audit(tmp_path / "extracted", "extract") as audit:
        await audit.note(toy, prompt, "a")
    (scored,) = read_audit(tmp_path / "scored")
    (extracted,) = read_audit(tmp_path / "extracted")
    assert scored.rendered == "<|user|>Wie geht's?<|end|><|assistant|>Answer:"
    assert (extracted.rendered, extracted.token_ids) == (None, None)
    assert scored.answer_prefix == extracted.answer_prefix == "Answer:"


async def test_the_next_process_writes_only_what_is_new_and_into_a_file_of_its_own(
    tmp_path: Path,
) -> None:
    with Audit(tmp_path, "score") as audit:
        await audit.note(ToyClient(), CHAT, "a")
    with Audit(tmp_path, "score") as audit:
        await audit.note(ToyClient(), CHAT, "a")
    assert names(tmp_path) == ["score-0001.jsonl"]
    with Audit(tmp_path, "score") as audit:
        await audit.note(ToyClient(), TEXT, "a")
    assert names(tmp_path) == ["score-0001.jsonl", "score-0002.jsonl"]


async def test_a_copy_cut_at_any_byte_keeps_every_line_before_the_cut_and_is_continued(
    tmp_path: Path,
) -> None:
    with Audit(tmp_path, "score") as audit:
        await audit.note(ToyClient(), CHAT, "a")
        await audit.note(ToyClient(), TEXT, "a")
    path = tmp_path / "score-0001.jsonl"
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for cut in range(0, len(content), 7):
        path.write_bytes(content[:cut])
        (tmp_path / "score-0002.jsonl").unlink(missing_ok=True)
        assert audited(tmp_path) == ({CHAT.sha256()} if cut >= first else set())
        with Audit(tmp_path, "score") as audit:
            await audit.note(ToyClient(), CHAT, "a")
            await audit.note(ToyClient(), TEXT, "a")
        hashes = [one.prompt_sha256 for one in read_audit(tmp_path)]
        assert sorted(hashes) == sorted([CHAT.sha256(), TEXT.sha256()])


async def test_a_line_that_something_else_wrote_is_named(tmp_path: Path) -> None:
    (tmp_path / "score-0001.jsonl").write_text('{"prompt": 1}\n')
    with pytest.raises(CorruptJournal, match=r"score-0001\.jsonl, line 1: is not a line"):
        audited(tmp_path)


@pytest.mark.parametrize("client", [Blind(), Mute()])
async def test_what_a_server_does_not_show_is_null_not_guessed(
    client: ToyClient, tmp_path: Path
) -> None:
    with Audit(tmp_path, "respond") as audit:
        await audit.note(client, CHAT, "prior")
    (one,) = read_audit(tmp_path)
    assert (one.rendered, one.token_ids) == (None, None)
    assert one.messages == [["user", "Wie geht's?"]]


async def test_the_tokens_that_were_sent_win_over_another_rendering(tmp_path: Path) -> None:
    with Audit(tmp_path, "score") as audit:
        await audit.note(ToyClient(), CHAT, "a", (1, 2, 3))
    (one,) = read_audit(tmp_path)
    assert (one.rendered, one.token_ids) == (None, [1, 2, 3])
