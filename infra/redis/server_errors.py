"""The errors of a Redis server that answers, but cannot do its work now, and the reaction to each of them."""

from enum import Enum
from typing import NamedTuple

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)


class Reaction(Enum):
    """The reaction of every role to an error of the server."""

    RECONNECT = "reconnect"
    """Close the connection and connect again, because the address may lead to another server now."""
    WAIT = "wait"
    """Try again soon: the server recovers by itself. Requests are answered with 503."""
    REFUSE = "refuse"
    """Try again later: an operator must act. Requests are answered with 503."""


class ServerError(NamedTuple):
    """The reaction to an error, and its reason: a clause for clients that contains no address."""

    reaction: Reaction
    reason: str


SERVER_ERRORS = {
    "READONLY": ServerError(Reaction.RECONNECT, "Redis is a replica and refuses writes"),
    "UNBLOCKED": ServerError(Reaction.RECONNECT, "Redis has become a replica"),
    "LOADING": ServerError(Reaction.WAIT, "Redis loads its data"),
    "MASTERDOWN": ServerError(Reaction.WAIT, "Redis is a replica and has lost its primary server"),
    "CLUSTERDOWN": ServerError(Reaction.WAIT, "a part of the Redis cluster is down"),
    "TRYAGAIN": ServerError(Reaction.WAIT, "Redis is moving keys to another server"),
    "NOREPLICAS": ServerError(Reaction.WAIT, "Redis has too few replicas for a write"),
    "BUSY": ServerError(Reaction.WAIT, "Redis is busy with a script"),
    "OOM": ServerError(Reaction.REFUSE, "the memory of Redis is full: raise maxmemory"),
    "MISCONF": ServerError(Reaction.REFUSE, "Redis cannot write to its disk: check its free space"),
    "NOPERM": ServerError(Reaction.REFUSE, "the Redis user lacks a right: see docs/security.md"),
    "WRONGTYPE": ServerError(Reaction.REFUSE, "another program has overwritten a key of TickView in Redis"),
    "NOAUTH": ServerError(Reaction.REFUSE, "Redis requires a user and a password"),
    "WRONGPASS": ServerError(Reaction.REFUSE, "Redis refuses the user or the password"),
}
"""Code of the error -> reaction and reason. Every other error of a server is a defect of the code or of the data.

Redis lists the codes at https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors and in its source.
"""

_CODES_OF_CLASSES: dict[type[Exception], str] = {
    ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    TryAgainError: "TRYAGAIN",
    AskError: "TRYAGAIN",
    ClusterError: "TRYAGAIN",
    OutOfMemoryError: "OOM",
    NoPermissionError: "NOPERM",
    AuthenticationError: "WRONGPASS",
}
"""redis-py removes the code from the text of errors of these classes. The subclasses come first.

A command that was redirected too often raises ClusterError. ASK and MOVED have one base class.
"""

_MOVED_KEY = "access a non local key"
"""Text in the error of a function whose undeclared key has been moved to another node already."""


def find_server_error(error: Exception) -> ServerError | None:
    """Return the reaction to an error that redis-py raised for a reply, or None for a defect."""
    for error_class, code in _CODES_OF_CLASSES.items():
        if isinstance(error, error_class):
            return SERVER_ERRORS[code]
    if _MOVED_KEY in str(error):
        return SERVER_ERRORS["TRYAGAIN"]
    return SERVER_ERRORS.get(str(error).partition(" ")[0])


def is_moving(error: Exception) -> bool:
    """Return whether a cluster refused a command because it is moving the keys of the command to another node."""
    return find_server_error(error) is SERVER_ERRORS["TRYAGAIN"]


def must_reconnect(error: Exception) -> bool:
    """Return whether the connection that received this error should be replaced."""
    server_error = find_server_error(error)
    return server_error is not None and server_error.reaction is Reaction.RECONNECT
