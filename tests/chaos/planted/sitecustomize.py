"""Plant a bug in every process of TickView that has this folder in PYTHONPATH. ``CHAOS_BUG`` names the bug."""

import os
from collections.abc import Callable

COMMAND = "    local name, key, words"

LOSE_COMMANDS = "    if _ > 1 and math.random() < 0.02 then return 'committed' end\n"
"""The first command of a commit moves the checkpoint. The others are lost now and then."""

BUGS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "commit without fence": (
        "commit",
        [
            ("if state[1] ~= args[1] then", "if false then"),
            ("if checkpoint ~= tonumber(args[2]) then", "if false then"),
        ],
    ),
    "checkpoint before the write": ("commit", [(COMMAND, LOSE_COMMANDS + COMMAND)]),
    "append without dedupe": ("append", [("if not original then", "if true then")]),
}
"""Bug -> name of the server-side function, and the replacements in its text."""


def plant(bug: str) -> None:
    """Change the text of a server-side function, or the listener."""
    if bug == "silent gap":
        from infra.recording.pubsub_listener import PubsubListener

        PubsubListener._store_gaps = lambda self: self._new_gaps.clear()  # type: ignore[method-assign]
        return
    from infra.redis import functions

    read: Callable[[], dict[str, tuple[str, str]]] = functions._libraries
    name, replacements = BUGS[bug]

    def read_with_bug() -> dict[str, tuple[str, str]]:
        libraries = dict(read())
        registered, text = libraries[name]
        for right, wrong in replacements:
            assert text.count(right) == 1, right
            text = text.replace(right, wrong)
        libraries[name] = registered, text
        return libraries

    functions._libraries = read_with_bug  # type: ignore[assignment]


if "CHAOS_BUG" in os.environ:
    plant(os.environ["CHAOS_BUG"])
