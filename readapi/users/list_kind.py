"""Kinds of user lists: the differences between watchlists and filter presets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from domain.list_rules import ExpectedVersions
from domain.workspace import Stamp, Workspace
from projections.workspaces import WorkspaceRow
from readapi.http.parameters import Parameters

CreateBody = TypeVar("CreateBody", bound=Parameters)
UpdateBody = TypeVar("UpdateBody", bound=Parameters)

ListCommand = Callable[[Workspace, Stamp, str], None]
"""A command on the list with the given id."""


@dataclass(frozen=True)
class ListKind(Generic[CreateBody, UpdateBody]):
    """The description of one kind of list, from which its endpoints are made."""

    noun: str
    """Name of the kind in responses and problems: ``watchlist``. With an ``s``, the name of the collection's member."""
    label: str
    """Name of the kind in summaries of operations."""
    document: Any
    """Type of the response with one list."""
    collection_document: Any
    """Type of the response with all lists."""
    create_body: type[CreateBody]
    update_body: type[UpdateBody]
    update_summary: str
    rows: Callable[[Workspace | WorkspaceRow], Mapping[str, Any]]
    """The lists of this kind in a workspace, by id."""
    render: Callable[[Mapping[str, Any], Workspace | WorkspaceRow], Mapping[str, Any]]
    """Convert a row, the fields of a list, to the JSON document of the list."""
    create: Callable[[CreateBody], ListCommand]
    """Make the command that creates a list. May raise InvalidListError."""
    update: Callable[[UpdateBody, ExpectedVersions | None], ListCommand]
    """Make the command that changes a list, if it has one of these versions. May raise InvalidListError."""
    delete: Callable[[ExpectedVersions | None], ListCommand]
    """Make the command that deletes a list, if it has one of these versions."""
