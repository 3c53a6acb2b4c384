"""TickView's operations in the API reference of a FastAPI application that TickView is mounted in."""

from typing import Any

import orjson

from readapi.http.mounting import MountedApplication

PREFIX = "TickView."
"""Prefix of the names of TickView's schemas, which the application's own schemas may have, too."""


def include_in_docs(app: Any) -> None:
    """Let ``app.openapi()`` describe the applications of TickView that are mounted in a FastAPI application.

    Args:
        app: The FastAPI application. Mounts that are added later are described, too.
    """
    describe_own = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe_own()
            for mount in app.routes:
                if isinstance(mounted := getattr(mount, "app", None), MountedApplication):
                    merge(document, mounted.document, mount.path)
            app.openapi_schema = document
        described: dict[str, Any] = app.openapi_schema
        return described

    app.openapi = openapi


def merge(document: dict[str, Any], mounted: Any, prefix: str) -> None:
    """Add the operations and schemas of a mounted application to an OpenAPI document.

    Args:
        document: The document of the host application, which is changed.
        mounted: The document of the mounted application.
        prefix: The path of the mount.
    """
    reference = b'"#/components/schemas/'
    renamed = orjson.loads(orjson.dumps(mounted).replace(reference, reference + PREFIX.encode()).replace(b"``", b"`"))
    document.setdefault("paths", {}).update({f"{prefix}{path}": item for path, item in renamed["paths"].items()})
    components = document.setdefault("components", {})
    schemas = {f"{PREFIX}{name}": schema for name, schema in renamed["components"].pop("schemas").items()}
    components.setdefault("schemas", {}).update(schemas)
    for kind, named in renamed["components"].items():
        components[kind] = {**named, **components.get(kind, {})}
