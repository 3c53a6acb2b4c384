"""The factory of the ``eventsourcing`` library's recorders: ``PERSISTENCE_MODULE=infra.eventlog``."""

from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic
from pydantic import ValidationError

from infra.archive.log_archive import PostgresArchive
from infra.eventlog.recorders import (
    OriginatorId,
    RedisAggregateRecorder,
    RedisApplicationRecorder,
    RedisProcessRecorder,
    RedisTrackingRecorder,
)
from infra.eventlog.transcoder import FaithfulJSONTranscoder
from infra.log.archive_port import Archive
from infra.log.event_log import EventLog
from infra.log.handle import LogOptions
from infra.postgres.database import Database
from infra.redis.connections import RedisClient, connect
from infra.settings import Settings

SETTINGS = ("redis_url", "postgres_dsn", "durability", "replicas", "dedupe_window", "log_retention_size")
"""The settings that the environment of an application may contain, as ``TICKVIEW_REDIS_URL`` and so on."""


class RedisFactory(InfrastructureFactory[RedisTrackingRecorder]):
    """Recorders on Redis. The application's name in lower case is the name of its log and of its tracking.

    The environment variable ``ORIGINATOR_ID_TYPE`` is ``uuid`` (the default) or ``text``.

    Raises:
        EnvironmentError: A setting is missing or invalid.
    """

    ORIGINATOR_ID_TYPE = "ORIGINATOR_ID_TYPE"

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._settings = _read_settings(self.env)
        self._name = (self.env.name or "application").lower()
        self._as_uuid = self._originator_ids_are_uuids()
        self.client = connect(str(self._settings.redis_url))
        self._archive = _open_archive(self.client, self._settings)

    def transcoder(self) -> Transcoder:
        """Return the transcoder that ``TRANSCODER_TOPIC`` names, else a JSON transcoder that preserves tuples."""
        return super().transcoder() if self.env.get(self.TRANSCODER_TOPIC) else FaithfulJSONTranscoder()

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Return a recorder of the snapshots, or of the events that ``purpose`` names."""
        return RedisAggregateRecorder(
            self.client,
            self._name,
            purpose,
            durability=self._settings.durability,
            replicas=self._settings.replicas,
            originator_id=self._originator_id,
        )

    def application_recorder(self) -> ApplicationRecorder:
        """Return a recorder of the application's log."""
        return RedisApplicationRecorder(self._open_log(), self._originator_id)

    def tracking_recorder(
        self, tracking_recorder_class: type[RedisTrackingRecorder] | None = None
    ) -> RedisTrackingRecorder:
        """Return a recorder of the given class, else of the class that ``TRACKING_RECORDER_TOPIC`` names."""
        topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
        if tracking_recorder_class is None:
            tracking_recorder_class = resolve_topic(topic) if topic else RedisTrackingRecorder
        return tracking_recorder_class(self.client, self._name)

    def process_recorder(self) -> ProcessRecorder:
        """Return a recorder of the application's log and of the positions of the applications that it follows."""
        return RedisProcessRecorder(self._open_log(), self._originator_id)

    def close(self) -> None:
        """Close the connections to Redis and PostgreSQL."""
        self.client.close()
        if self._archive:
            self._archive.close()

    def _open_log(self) -> EventLog:
        options = LogOptions.from_settings(self._settings)
        return EventLog(self.client, self._name, options, archive=self._archive)

    def _originator_ids_are_uuids(self) -> bool:
        originator_id_type = self.env.get(self.ORIGINATOR_ID_TYPE, "uuid").lower()
        if originator_id_type not in ("uuid", "text"):
            raise OSError(f"{self.ORIGINATOR_ID_TYPE} is {originator_id_type!r}: it must be 'uuid' or 'text'")
        return originator_id_type == "uuid"

    def _originator_id(self, stream: str) -> OriginatorId:
        return UUID(stream) if self._as_uuid else stream


def _open_archive(client: RedisClient, settings: Settings) -> Archive | None:
    if settings.postgres_dsn is None:
        return None
    database = Database(settings.postgres_dsn)
    return PostgresArchive(database, client, restore_limit=settings.log_retention_size, partitions=settings.partitions)


def _read_settings(env: Environment) -> Settings:
    values: dict[str, Any] = {}
    for name in SETTINGS:
        value = env.get(f"TICKVIEW_{name.upper()}")
        if value:
            values[name] = value
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"])
        raise OSError(f"The event log's setting {setting} is invalid: {first['msg']}") from error
    if settings.redis_url is None:
        keys = " or ".join(env.create_keys("TICKVIEW_REDIS_URL"))
        raise OSError(f"The event log has no Redis server: set {keys}, for example to redis://127.0.0.1:6379")
    return settings
