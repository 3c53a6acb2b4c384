"""Redis Functions: atomic server-side operations, one ``.lua`` file each.

The registered name of a function contains a digest of its text. Processes of different releases therefore share a
server, and each calls its own functions. A server that does not know a function gets all functions on first use: so
does a primary that joins a cluster.
See https://redis.io/docs/latest/develop/programmability/functions-intro/.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, TypeVar

from redis import Redis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.exceptions import ResponseError

from infra.redis.cluster import run_on_key_node, run_on_primaries
from infra.redis.connections import AsyncRedisClient, RedisClient

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
    name: str, keys: Sequence[str], arguments: Sequence[Argument], *, read_only: bool = False, despite_oom: bool = False
) -> list[Argument]:
    """Return the command that calls the function of ``<name>.lua``, for ``execute_command`` of a client or a pipeline.

    Args:
        name: The name of the file without ``.lua``.
        keys: The keys that the file declares, in its order.
        arguments: The arguments that the file declares, in its order.
        read_only: Whether the function is registered with the flag ``no-writes``, so that a replica may run it.
        despite_oom: Whether a full server should run the function too. The file registers a second name for this.
    """
    registered_name, _ = _libraries()[name]
    if despite_oom:
        registered_name += "_despite_oom"
    return ["FCALL_RO" if read_only else "FCALL", registered_name, len(keys), *keys, *arguments]


_LIST = ("FUNCTION", "LIST", "LIBRARYNAME", "tickview_*")
"""The command that lists the functions of all releases of TickView."""


def load(client: RedisClient) -> None:
    """Register the functions of this release that a server, or a primary of a cluster, does not have.

    A full server refuses to register functions, but runs those that it has.
    """
    run_on_primaries(client, _load)


def _load(server: Redis) -> None:
    for text in _missing(server.execute_command(*_LIST)):
        server.execute_command("FUNCTION", "LOAD", "REPLACE", text)


async def load_async(client: AsyncRedisClient) -> None:
    """Register the functions of this release that the servers of an asynchronous client do not have."""
    if isinstance(client, AsyncRedisCluster):
        for node in client.get_primaries():
            await _load_async(client, target_nodes=node)
    else:
        await _load_async(client)


async def _load_async(client: AsyncRedisClient, **options: Any) -> None:
    for text in _missing(await client.execute_command(*_LIST, **options)):
        await client.execute_command("FUNCTION", "LOAD", "REPLACE", text, **options)


def _missing(libraries: Any) -> list[str]:
    """Return the texts of the functions that the reply to ``FUNCTION LIST`` does not contain."""
    known = {value for library in libraries for value in _values(library)}
    return [text for name, text in _libraries().values() if name.encode() not in known]


def _values(library: Any) -> list[Any]:
    """Return the values of a library, which RESP2 describes by a list and RESP3 by a map."""
    values = library.values() if isinstance(library, dict) else library[1::2]
    return [value for value in values if isinstance(value, bytes)]


def with_functions(client: RedisClient, operation: Callable[[], T]) -> T:
    """Run ``operation``, which calls functions, and return its result.

    If the server does not know a function, all functions are registered and the operation runs a second time.
    """
    try:
        return operation()
    except ResponseError as error:
        if not is_unknown_function(error):
            raise
    load(client)
    return operation()


async def with_functions_async(client: AsyncRedisClient, operation: Callable[[], Awaitable[T]]) -> T:
    """Run ``operation`` as ``with_functions`` does, with an asynchronous client."""
    try:
        return await operation()
    except ResponseError as error:
        if not is_unknown_function(error):
            raise
    await load_async(client)
    return await operation()


def call(client: RedisClient, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
    """Call the function of ``<name>.lua`` and return its reply."""
    return execute(client, command(name, keys, arguments))


def execute(client: RedisClient, words: Sequence[Argument]) -> Any:
    """Execute the command that calls a function, on the server of its keys, and return the reply."""
    first_key = str(words[3])
    return run_on_key_node(client, first_key, lambda node: with_functions(node, lambda: node.execute_command(*words)))


def is_unknown_function(error: ResponseError) -> bool:
    """Return whether a server refused a call because it does not know the function."""
    return "Function not found" in str(error)
