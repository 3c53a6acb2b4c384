"""The ``eventsourcing`` library's way in: ``PERSISTENCE_MODULE=infra.eventlog``."""

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
from redis import Redis

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
from infra.postgres.database import Database
from infra.redis.connections import connect
from infra.settings import Settings

SETTINGS = ("redis_url", "postgres_dsn", "durability", "replicas", "dedupe_window", "log_retention_size")
"""The settings that an application's environment may hold, as ``TICKVIEW_REDIS_URL`` and so on."""


class RedisFactory(InfrastructureFactory[RedisTrackingRecorder]):
    """Recorders whose log and tracking are named after the application, in lower case.

    ``ORIGINATOR_ID_TYPE`` is ``uuid`` (the default) or ``text``. Raises EnvironmentError for a setting that
    is missing or wrong.
    """

    ORIGINATOR_ID_TYPE = "ORIGINATOR_ID_TYPE"

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._settings = _settings(self.env)
        self._name = (self.env.name or "application").lower()
        self._as_uuid = self._originator_ids_are_uuids()
        self.client = connect(str(self._settings.redis_url))
        self._archive = _archive_of(self.client, self._settings)

    def transcoder(self) -> Transcoder:
        """The transcoder that ``TRANSCODER_TOPIC`` names, else JSON that keeps tuples."""
        return super().transcoder() if self.env.get(self.TRANSCODER_TOPIC) else FaithfulJSONTranscoder()

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """A recorder of snapshots, or of whatever else ``purpose`` says."""
        return RedisAggregateRecorder(
            self.client,
            self._name,
            purpose,
            durability=self._settings.durability,
            replicas=self._settings.replicas,
            originator_id=self._originator_id,
        )

    def application_recorder(self) -> ApplicationRecorder:
        """A recorder of the application's log."""
        return RedisApplicationRecorder(self._log(), self._originator_id)

    def tracking_recorder(
        self, tracking_recorder_class: type[RedisTrackingRecorder] | None = None
    ) -> RedisTrackingRecorder:
        """A recorder of the given class, else of the one that ``TRACKING_RECORDER_TOPIC`` names."""
        topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
        if tracking_recorder_class is None:
            tracking_recorder_class = resolve_topic(topic) if topic else RedisTrackingRecorder
        return tracking_recorder_class(self.client, self._name)

    def process_recorder(self) -> ProcessRecorder:
        """A recorder of the application's log and of what it follows."""
        return RedisProcessRecorder(self._log(), self._originator_id)

    def close(self) -> None:
        """Close the connections to Redis and PostgreSQL."""
        self.client.close()
        if self._archive:
            self._archive.close()

    def _log(self) -> EventLog:
        return EventLog(
            self.client,
            self._name,
            durability=self._settings.durability,
            replicas=self._settings.replicas,
            dedupe_window=self._settings.dedupe_window,
            archive=self._archive,
        )

    def _originator_ids_are_uuids(self) -> bool:
        originator_id_type = self.env.get(self.ORIGINATOR_ID_TYPE, "uuid").lower()
        if originator_id_type not in ("uuid", "text"):
            raise OSError(f"{self.ORIGINATOR_ID_TYPE} is {originator_id_type!r}: it must be 'uuid' or 'text'")
        return originator_id_type == "uuid"

    def _originator_id(self, stream: str) -> OriginatorId:
        return UUID(stream) if self._as_uuid else stream


def _archive_of(client: Redis, settings: Settings) -> Archive | None:
    """The archive behind the log, if an application sets a PostgreSQL."""
    if settings.postgres_dsn is None:
        return None
    database = Database(settings.postgres_dsn)
    return PostgresArchive(database, client, keep=settings.log_retention_size, partitions=settings.partitions)


def _settings(env: Environment) -> Settings:
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
        raise OSError(f"setting {setting} of the event log: {first['msg']}") from error
    if settings.redis_url is None:
        keys = " or ".join(env.create_keys("TICKVIEW_REDIS_URL"))
        raise OSError(f"no Redis for the event log: set {keys}, for instance to redis://127.0.0.1:6379")
    return settings
