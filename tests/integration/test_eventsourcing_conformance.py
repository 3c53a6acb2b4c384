"""The test cases of the ``eventsourcing`` library for persistence modules, on Valkey 9 and on Redis 7.0."""

import os
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import ClassVar
from unittest import TestCase
from uuid import uuid4

import pytest
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import (
    DatetimeAsISO,
    DecimalAsStr,
    Tracking,
    Transcoder,
    Transcoding,
    UUIDAsHex,
)
from eventsourcing.tests import application, persistence, projection
from eventsourcing.utils import Environment, get_topic

from infra import eventlog
from infra.redis.connections import connect

# A test case of the library asserts that it emits this warning.
pytestmark = pytest.mark.filterwarnings("default:'log' is deprecated:DeprecationWarning")

SERVERS = {"Valkey9": "valkey_url", "Redis70": "redis_7_0_url"}


class ServerCase:
    """A test case with an empty server for each test and an environment with the address of the server."""

    __test__ = False
    server_fixture: ClassVar[str]
    env: ClassVar[Environment]

    @pytest.fixture(autouse=True)
    def _empty_server(self, request: pytest.FixtureRequest) -> Iterator[None]:
        url = request.getfixturevalue(self.server_fixture)
        with connect(url) as client:
            client.flushall()
        settings = {"PERSISTENCE_MODULE": "infra.eventlog", "TICKVIEW_REDIS_URL": url}
        type(self).env = Environment("TestCase", settings)
        before = dict(os.environ)
        os.environ.update(settings)
        yield
        os.environ.clear()
        os.environ.update(before)

    def new_factory(self) -> eventlog.RedisFactory:
        """Return a factory that is closed at the end of the test."""
        factory = eventlog.RedisFactory(type(self).env)
        self.addCleanup(factory.close)
        return factory


def on_each_server(case: type[ServerCase]) -> type[ServerCase]:
    """Define a subclass of ``case`` for each server."""
    for server, fixture in SERVERS.items():
        members = {"__test__": True, "__module__": case.__module__, "server_fixture": fixture}
        name = f"{case.__name__}On{server}"
        setattr(sys.modules[case.__module__], name, type(name, (case,), members))
    return case


@on_each_server
class AggregateRecorderCase(ServerCase, persistence.AggregateRecorderTestCase):
    def create_recorder(self) -> eventlog.RedisAggregateRecorder:
        return self.new_factory().aggregate_recorder()


@on_each_server
class ApplicationRecorderCase(ServerCase, persistence.ApplicationRecorderTestCase):
    def create_recorder(self) -> eventlog.RedisApplicationRecorder:
        return self.new_factory().application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


@on_each_server
class TextOriginatorsCase(ServerCase, persistence.ApplicationRecorderTestCase):
    def create_recorder(self) -> eventlog.RedisApplicationRecorder:
        self.env["ORIGINATOR_ID_TYPE"] = "text"
        return self.new_factory().application_recorder()

    def new_originator_id(self) -> str:
        return f"symbol-{{{uuid4()}}}"


@on_each_server
class TrackingRecorderCase(ServerCase, persistence.TrackingRecorderTestCase):
    def create_recorder(self) -> eventlog.RedisTrackingRecorder:
        return self.new_factory().tracking_recorder()


@on_each_server
class ProcessRecorderCase(ServerCase, persistence.ProcessRecorderTestCase):
    def create_recorder(self) -> eventlog.RedisProcessRecorder:
        return self.new_factory().process_recorder()


@on_each_server
class ProcessRecorderAsApplicationRecorderCase(ServerCase, persistence.ApplicationRecorderTestCase):
    def create_recorder(self) -> eventlog.RedisProcessRecorder:
        return self.new_factory().process_recorder()


@on_each_server
class NonInterleavingNotificationIdsCase(ServerCase, persistence.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> eventlog.RedisApplicationRecorder:
        return self.new_factory().application_recorder()


class CustomTrackingRecorder(eventlog.RedisTrackingRecorder):
    """A recorder class that a test passes to the factory."""


@on_each_server
class InfrastructureFactoryCase(ServerCase, persistence.InfrastructureFactoryTestCase):
    def expected_factory_class(self) -> type[eventlog.RedisFactory]:
        return eventlog.RedisFactory

    def expected_aggregate_recorder_class(self) -> type[eventlog.RedisAggregateRecorder]:
        return eventlog.RedisAggregateRecorder

    def expected_application_recorder_class(self) -> type[eventlog.RedisApplicationRecorder]:
        return eventlog.RedisApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[eventlog.RedisTrackingRecorder]:
        return eventlog.RedisTrackingRecorder

    def tracking_recorder_subclass(self) -> type[eventlog.RedisTrackingRecorder]:
        return CustomTrackingRecorder

    def expected_process_recorder_class(self) -> type[eventlog.RedisProcessRecorder]:
        return eventlog.RedisProcessRecorder


def transcoding_of(subclass: type, builtin: type) -> Transcoding:
    """Return a transcoding of a subclass of a built-in type."""
    members = {
        "type": subclass,
        "name": subclass.__name__.lower(),
        "encode": lambda _, obj: builtin(obj),
        "decode": lambda _, data: subclass(data),
    }
    return type(f"{subclass.__name__}Transcoding", (Transcoding,), members)()


@on_each_server
class TranscoderCase(ServerCase, persistence.TranscoderTestCase):
    def construct_transcoder(self) -> Transcoder:
        transcoder = self.new_factory().transcoder()
        for transcoding in (
            UUIDAsHex(),
            persistence.CustomType1AsDict(),
            persistence.CustomType2AsDict(),
            transcoding_of(persistence.Mydict, dict),
            transcoding_of(persistence.MyList, list),
            transcoding_of(persistence.MyStr, str),
            transcoding_of(persistence.MyInt, int),
        ):
            transcoder.register(transcoding)
        return transcoder


class PriceMeasured(DomainEvent):
    """An event with values that JSON does not represent: a tuple and a decimal."""

    path: tuple[int, ...]
    price: Decimal


@on_each_server
class MapperCase(ServerCase, TestCase):
    def test_an_event_read_from_the_log_equals_the_appended_event(self) -> None:
        factory = self.new_factory()
        transcoder = factory.transcoder()
        for transcoding in (UUIDAsHex(), DecimalAsStr(), DatetimeAsISO()):
            transcoder.register(transcoding)
        event = PriceMeasured(
            originator_id=uuid4(),
            originator_version=1,
            timestamp=PriceMeasured.create_timestamp(),
            path=(1, 2),
            price=Decimal("10.50"),
        )
        store = factory.event_store(factory.mapper(transcoder))

        store.put([event])

        assert list(store.get(event.originator_id)) == [event]


@on_each_server
class ExampleApplicationCase(ServerCase, application.ExampleApplicationTestCase):
    expected_factory_topic = get_topic(eventlog.RedisFactory)


@on_each_server
class ApplicationCase(ServerCase, application.ApplicationTestCase):
    pass


class EventCounters(eventlog.RedisTrackingRecorder, projection.EventCountersView):
    """Counters that change together with the tracking position."""

    def get_created_event_counter(self) -> int:
        return self.count("created")

    def get_subsequent_event_counter(self) -> int:
        return self.count("subsequent")

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self.insert_tracking(tracking, {"created": 1})

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self.insert_tracking(tracking, {"subsequent": 1})


@on_each_server
class EventCountersViewCase(ServerCase, projection.EventCountersViewTestCase):
    def construct_event_counters_view(self) -> EventCounters:
        return self.new_factory().tracking_recorder(EventCounters)


@on_each_server
class AggregateEventCountersProjectionCase(ServerCase, projection.AggregateEventCountersProjectionTestCase):
    view_class = EventCounters


@on_each_server
class EventSourcedProjectionCase(ServerCase, projection.EventSourcedProjectionTestCase):
    pass
