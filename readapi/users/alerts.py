"""``/api/users/filter-presets/{list_id}/alert``: the alert of a filter preset."""

from collections.abc import Mapping
from dataclasses import asdict
from secrets import token_hex
from typing import Any, NotRequired

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from domain.list_rules import ExpectedVersions, InvalidListError
from projections.workspaces import WorkspaceRow
from readapi.http.bodies import read_body
from readapi.http.identities import identity_of
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.responses import send_private
from readapi.patterns.list_filters import read_workspace
from readapi.ports.commands import Webhooks
from readapi.ports.read_models import LiveRows
from readapi.users.list_kind import ListCommand
from readapi.users.list_resource import UserLists, expected_versions

MAX_BODY_BYTES = 10_000
"""Highest number of bytes in the body of a request."""

SALT_BYTES = 16
"""Number of random bytes from which the secret of a webhook is derived."""

_PATH = {"list_id": "Id of the filter preset."}
_ETAG_HEADER = {"ETag": "Version of the alert, to send as `If-Match`."}


class AlertContent(Parameters):
    """The way of an alert: either ``webhook``, or ``push``."""

    webhook: str | None = None
    """URL that receives a signed ``POST`` request for each match, at most 2,048 characters: ``https://…``."""
    push: bool = False
    """Whether your live connections receive a message ``alert`` for each match."""


class Alert(TypedDict):
    """The alert of a filter preset. All times are in seconds since the epoch."""

    webhook: str | None
    """URL that receives the alerts, or null."""
    push: bool
    """Whether your live connections receive the alerts."""
    created_at: float
    """Time of creation. Patterns that were detected earlier do not count."""
    updated_at: float
    version: int
    """Number of changes, from 1 for the creation."""
    secret: NotRequired[str]
    """The secret that signs the requests to the webhook. Only the answer to the ``PUT`` that sets it has it."""


class AlertDocument(TypedDict):
    """The alert of one filter preset. Its ``version`` is the value of the ``ETag``."""

    alert: Alert


class AlertResource(Resource):
    """The alert of one filter preset of the client.

    Args:
        lists: The lists of all users.
        webhooks: Checks the URLs of webhooks, and has their secrets.
    """

    def __init__(self, lists: UserLists, webhooks: Webhooks) -> None:
        self.read_model = lists.read_model
        self._lists = lists
        self._webhooks = webhooks

    @operation(
        "Show the alert of a filter preset.",
        scope="read",
        responses={200: AlertDocument},
        path=_PATH,
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, _query: Parameters, *, live: LiveRows[WorkspaceRow], list_id: str
    ) -> None:
        """Send the alert, or 404 if the preset has none."""
        alert = (await read_workspace(req, live)).alerts.get(list_id)
        if alert is None:
            raise not_found(f"alert of a preset {list_id!r} of this user")
        send_private(req, resp, {"alert": _document(alert)}, str(alert["version"]))

    @operation(
        "Set the alert of a filter preset, and the secret of its webhook anew.",
        scope="write",
        responses={200: AlertDocument, 201: AlertDocument},
        path=_PATH,
        body=AlertContent,
        problems=(404, 412, 413, 415, 422, 503),
        writes=True,
        uses_if_match=True,
        headers=_ETAG_HEADER,
    )
    async def on_put(self, req: Request, resp: Response, _query: Parameters, list_id: str) -> None:
        """Set the alert and send it with the new secret of its webhook."""
        body = await read_body(req, AlertContent, MAX_BODY_BYTES)
        if (body.webhook is not None) == body.push:
            raise InvalidListError([("webhook", "should be given, or push should be true, but not both")])
        if body.webhook is not None:
            await self._webhooks.check(body.webhook)
        salt = token_hex(SALT_BYTES)
        command = _set(body.webhook, salt, expected_versions(req))
        workspace = await self._lists.execute(req, resp, command, list_id)
        document = _document(asdict(workspace.alerts[list_id]))
        if body.webhook is not None:
            document["secret"] = await self._webhooks.secret(identity_of(req).subject, list_id, salt)
        resp.status = 201 if document["version"] == 1 else 200
        send_private(req, resp, {"alert": document}, str(document["version"]))

    @operation(
        "Remove the alert of a filter preset.",
        scope="write",
        responses={204: None},
        path=_PATH,
        problems=(404, 412, 503),
        writes=True,
        uses_if_match=True,
    )
    async def on_delete(self, req: Request, resp: Response, _query: Parameters, list_id: str) -> None:
        """Remove the alert. Alerts that wait for delivery are dropped."""
        expected = expected_versions(req)
        await self._lists.execute(
            req, resp, lambda workspace, stamp, list_id: workspace.remove_alert(stamp, list_id, expected), list_id
        )
        resp.status = 204


def _set(webhook: str | None, salt: str, expected: ExpectedVersions | None) -> ListCommand:
    return lambda workspace, stamp, list_id: workspace.set_alert(stamp, list_id, webhook, salt, expected)


def _document(alert: Mapping[str, Any]) -> Alert:
    return Alert(
        webhook=alert["webhook"],
        push=alert["webhook"] is None,
        created_at=alert["created_at"],
        updated_at=alert["updated_at"],
        version=alert["version"],
    )
