"""
The date that some chat templates write into every prompt, held fixed.

gpt-oss's template writes the current date, so that the same question is another
prompt on the next day. Grace puts a fixed date in its place, in the rendered
text, since no server takes one with a request. It knows nothing of tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from grace.errors import UnsupportedByServer
from grace.studies.prompts import Message

_PLACE = "{date}"
_PARTS = re.compile(r"\d+|[^\W\d_]+|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TemplateDate:
    """
    Where a chat template writes the current date, and the date to have there.

    Attributes:
        written: The text around the date, with `{date}` in its place.

        pinned: The date, as the template would write it.
    """

    written: str
    pinned: str

    def pin(self, text: str, messages: Sequence[Message]) -> str:
        """
        Return a rendered chat with the fixed date.

        Args:
            text: The chat, as the server's template rendered it.

            messages: What was rendered; dates in there are left alone.

        Raises:
            UnsupportedByServer: The template writes no such date.

        >>> TemplateDate("Today: {date}.", "1 May 2025").pin("Today: 23 November 2026. Hi.", ())
        'Today: 1 May 2025. Hi.'
        """
        before, _, after = self.written.partition(_PLACE)
        pattern = re.compile(re.escape(before) + _shape(self.pinned) + re.escape(after))
        own = sum(len(pattern.findall(message.content)) for message in messages)
        if len(pattern.findall(text)) <= own:
            raise UnsupportedByServer(
                f"the server's chat template writes no {self.written!r} with a date like "
                f"{self.pinned!r}; correct template_date of the model's catalogue entry, or take "
                "it out if the template writes no date"
            )
        return pattern.sub(lambda _: f"{before}{self.pinned}{after}", text, count=1)


def _shape(date: str) -> str:
    """Return a pattern for dates that are written like this one."""
    return "".join(
        r"\d+" if part.isdigit() else r"[^\W\d_]+" if part.isalpha() else re.escape(part)
        for part in _PARTS.findall(date)
    )
