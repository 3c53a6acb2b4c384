"""Redis Functions: atomic server-side steps, one ``.lua`` file each.

A function is registered under its name and a digest of its text, so that processes of different releases share a
server without calling each other's functions. A server that has lost them is given them again on first use.
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
T = TypeVar("T")


@cache
def _libraries() -> dict[str, tuple[str, str]]:
    """Function name -> (registered name, library text)."""
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
    """The words that call the function of ``<name>.lua``, for ``execute_command`` of a client or a pipeline."""
    registered_name, _ = _libraries()[name]
    return ["FCALL_RO" if read_only else "FCALL", registered_name, len(keys), *keys, *arguments]


def load(client: Redis) -> None:
    """Give the server every function of this release."""
    for _, text in _libraries().values():
        client.execute_command("FUNCTION", "LOAD", "REPLACE", text)


async def load_async(client: AsyncRedis) -> None:
    """``load`` for an asynchronous client."""
    for _, text in _libraries().values():
        await client.execute_command("FUNCTION", "LOAD", "REPLACE", text)


def with_functions(client: Redis, operation: Callable[[], T]) -> T:
    """The result of ``operation``, which calls functions; repeated once where the server did not know them."""
    try:
        return operation()
    except ResponseError as error:
        if not _is_unknown_function(error):
            raise
    load(client)
    return operation()


async def with_functions_async(client: AsyncRedis, operation: Callable[[], Awaitable[T]]) -> T:
    """``with_functions`` for an asynchronous client."""
    try:
        return await operation()
    except ResponseError as error:
        if not _is_unknown_function(error):
            raise
    await load_async(client)
    return await operation()


def call(client: Redis, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
    """Call the function of ``<name>.lua``."""
    return with_functions(client, lambda: client.execute_command(*command(name, keys, arguments)))


def _is_unknown_function(error: ResponseError) -> bool:
    return "Function not found" in str(error)
