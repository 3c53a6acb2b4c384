"""The service in the process of another application: the entry point behind ``readapi.init_app`` and ``create_app``."""

from typing import Any

from falcon.asgi import App

from infra.plugins import configure
from infra.serving.app import build_app
from infra.serving.service import prepare_service
from readapi.http.mounting import LazyLifespan


def add_to(host: App[Any, Any] | None) -> App[Any, Any]:
    """Add TickView to a Falcon application, or create one, with the settings from the environment.

    Implements ``EmbeddedService``. Nothing connects before the start of the application.

    Raises:
        StartupError: No Redis is configured, a plug-in cannot be used, or a file with tokens or keys cannot be read.
        pydantic.ValidationError: A setting is invalid.
    """
    return build_app(prepare_service(configure()), host, LazyLifespan)
