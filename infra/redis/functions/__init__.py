"""Redis Functions: atomic server-side operations, one ``.lua`` file each.

The registered name of a function contains a digest of its text. Processes of different releases therefore share a
server, and each calls its own functions. A server that does not know a function gets all functions on first use.
See https://redis.io/docs/latest/develop/programmability/functions-intro/.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ResponseError

Argument = str | bytes | int | float
"""An argument of a server-side function."""

T = TypeVar("T")


@cache
def _libraries() -> dict[str, tuple[str, str]]:
    """Read all functions: function name -> (registered name, library text)."""
    libraries = {}
    for file in files(__package__).iterdir():
        name, dot, suffix = file.name.partition(".")
        if (dot, suffix) == (".", "lua"):
            text = file.read_text(encoding="utf-8")
            registered_name = f"tickview_{name}_{sha256(text.encode()).hexdigest()[:8]}"
            libraries[name] = (registered_name, text.replace("@NAME@", registered_name))
    return libraries


def command(
    name: str, keys: Sequence[str], arguments: Sequence[Argument], *, read_only: bool = False
) -> list[Argument]:
    """Return the command that calls the function of ``<name>.lua``, for ``execute_command`` of a client or a pipeline.

    Args:
        name: The name of the file without ``.lua``.
        keys: The keys that the file declares, in its order.
        arguments: The arguments that the file declares, in its order.
        read_only: Whether the function is registered with the flag ``no-writes``, so that a replica may run it.
    """
    registered_name, _ = _libraries()[name]
    return ["FCALL_RO" if read_only else "FCALL", registered_name, len(keys), *keys, *arguments]


def load(client: Redis) -> None:
    """Register all functions of this release on the server."""
    for _, text in _libraries().values():
        client.execute_command("FUNCTION", "LOAD", "REPLACE", text)


async def load_async(client: AsyncRedis) -> None:
    """Register all functions of this release on the server of an asynchronous client."""
    for _, text in _libraries().values():
        await client.execute_command("FUNCTION", "LOAD", "REPLACE", text)


def with_functions(client: Redis, operation: Callable[[], T]) -> T:
    """Run ``operation``, which calls functions, and return its result.

    If the server does not know a function, all functions are registered and the operation runs a second time.
    """
    try:
        return operation()
    except ResponseError as error:
        if not _is_unknown_function(error):
            raise
    load(client)
    return operation()


async def with_functions_async(client: AsyncRedis, operation: Callable[[], Awaitable[T]]) -> T:
    """Run ``operation`` as ``with_functions`` does, with an asynchronous client."""
    try:
        return await operation()
    except ResponseError as error:
        if not _is_unknown_function(error):
            raise
    await load_async(client)
    return await operation()


def call(client: Redis, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
    """Call the function of ``<name>.lua`` and return its reply."""
    return with_functions(client, lambda: client.execute_command(*command(name, keys, arguments)))


def _is_unknown_function(error: ResponseError) -> bool:
    return "Function not found" in str(error)
