"""Messages of live push: WebSocket frames, read by the parser of ``websockets``, and server-sent events."""

from collections.abc import Generator

import orjson
import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from readapi.ports.commits import CommitId
from readapi.push.messages import PushMessage, changes_message, event_chunk, message, websocket_frame


def read_frame(data: bytes) -> Frame:
    reader = StreamReader()
    reader.feed_data(data)
    parsing: Generator[None, None, Frame] = Frame.parse(reader.read_exact, mask=False, max_size=None)
    with pytest.raises(StopIteration) as end:
        next(parsing)
    reader.feed_eof()
    assert not reader.buffer
    frame: Frame = end.value.value
    return frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_the_websockets_library_reads_a_frame(size: int) -> None:
    body = b"x" * size
    frame = read_frame(websocket_frame(PushMessage("changes", "1", body)))
    assert frame.opcode is Opcode.TEXT
    assert frame.fin
    assert bytes(frame.data) == body


def test_a_server_sent_event_is_one_http_chunk() -> None:
    push_message = message("reset", "patterns:1.1/", topic="patterns", reason="because")
    size, _, rest = event_chunk(push_message).partition(b"\r\n")
    event, end = rest[: int(size, 16)], rest[int(size, 16) :]
    assert end == b"\r\n"
    assert event == b"event: reset\nid: patterns:1.1/\ndata: " + push_message.body + b"\n\n"


def test_a_message_without_an_id_does_not_change_the_last_event_id() -> None:
    push_message = message("dropped", reason="too slow")
    assert b"\nid:" not in event_chunk(push_message)
    assert orjson.loads(push_message.body) == {"type": "dropped", "reason": "too slow"}


def test_a_changes_message_is_one_json_object() -> None:
    marks = {"market-1": CommitId(7, 1), "market-0": CommitId(12)}
    push_message = changes_message("patterns", "id", marks, [b'{"op":"remove","id":"a"}', b'{"op":"remove","id":"b"}'])
    assert orjson.loads(push_message.body) == {
        "type": "changes",
        "topic": "patterns",
        "id": "id",
        "position": "market-0=12,market-1=7",
        "changes": [{"op": "remove", "id": "a"}, {"op": "remove", "id": "b"}],
    }
