"""The dead letters, for the API."""

import re
from collections.abc import Sequence

from domain.announcements import DeadLetter, Receipt
from domain.origins import Sender
from infra.operations.journal import Journal
from infra.recording.dead_letters import DeadLetters
from infra.recording.recorder import Recorder
from infra.serving.blocking_calls import in_thread

_CURSOR = re.compile("[1-9][0-9]{0,14}", re.ASCII)


class AsyncDeadLetters:
    """The dead letters. Implements ``DeadLetterCommands``. The cursor of a page is the number of its last letter.

    Every method raises UnavailableError while Redis cannot be reached.
    """

    def __init__(self, letters: DeadLetters, recorder: Recorder, journal: Journal) -> None:
        self._journal = journal
        self._letters = letters
        self._recorder = recorder

    async def page(self, cursor: str | None, limit: int) -> tuple[Sequence[DeadLetter], str | None]:
        """Return a page of letters, newest first, and the cursor of the next page.

        Raises:
            ValueError: The cursor is malformed.
        """
        before = None if cursor is None else _parse_cursor(cursor)
        letters = await in_thread(lambda: self._letters.page(before, limit + 1))
        page = letters[:limit]
        return page, str(page[-1].number) if len(letters) > limit else None

    async def get(self, letter_id: str) -> DeadLetter | None:
        """Return a letter, or None if it does not exist."""
        return await in_thread(lambda: self._letters.get(letter_id))

    async def retry(self, letter_id: str, operator: Sender) -> Receipt | None:
        """Record the message of a letter again. Return None if the letter does not exist."""

        def retry() -> Receipt | None:
            letter = self._letters.get(letter_id)
            if letter is None:
                return None
            self._journal.record("retry-dead-letter", letter_id, operator)
            return self._recorder.retry(letter)

        return await in_thread(retry)

    async def discard(self, letter_id: str, operator: Sender) -> bool:
        """Remove a letter. Return False if it does not exist."""

        def discard() -> bool:
            if self._letters.get(letter_id) is None:
                return False
            self._journal.record("discard-dead-letter", letter_id, operator)
            return self._letters.discard(letter_id)

        return await in_thread(discard)


def _parse_cursor(cursor: str) -> int:
    if not _CURSOR.fullmatch(cursor):
        raise ValueError("is not a cursor of this list")
    return int(cursor)
