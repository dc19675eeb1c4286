"""Whatever a client sends is a message or a `LiveError`, and nothing else."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_kit import understand

from tornado_live.errors import InvalidField, InvalidJson, LiveError, UnknownMessage
from tornado_live.wire.requests import ClientMessage

CORPUS = sorted((Path(__file__).parent / "fuzz" / "corpus" / "messages").iterdir())
TYPES = {message.__struct_config__.tag: message for message in ClientMessage.__args__}
FIELDS = sorted({field for message in TYPES.values() for field in message.__struct_fields__})

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["pcm", "audio", "AAAA", "data:;base64,AAAA", "s1", "manual", "16000"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
messages = st.builds(
    lambda kind, fields: fields | {"type": kind},
    st.sampled_from(sorted(TYPES)) | scalars,
    st.dictionaries(st.sampled_from(FIELDS) | st.text(), values, max_size=8),
)


@settings(deadline=None)
@given(st.text() | st.binary())
def test_any_frame_is_a_message_or_an_error(frame: str | bytes) -> None:
    understand(frame)


@settings(max_examples=200, deadline=None)
@given(messages)
def test_a_message_with_any_fields_is_a_message_or_an_error(message: dict[str, Any]) -> None:
    understand(json.dumps(message))


@settings(deadline=None)
@given(messages, st.integers(min_value=0), st.binary(max_size=4))
def test_a_damaged_message_is_a_message_or_an_error(message: dict[str, Any], at: int, junk: bytes) -> None:
    wire = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    understand(wire[: at % len(wire)] + junk + wire[at % len(wire) + 1 :])


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ("{", InvalidJson),
        (b"\xff", InvalidJson),
        ("{}", InvalidField),
        ('{"type":7}', InvalidField),
        ('{"type":"shout"}', UnknownMessage),
        ('{"type":"text","text":7}', InvalidField),
        ('{"type":"start_session","session_id":"../x"}', InvalidField),
    ],
)
def test_the_error_says_what_is_wrong(frame: str | bytes, error: type[LiveError]) -> None:
    assert type(understand(frame)) is error


def test_the_corpus_has_every_type() -> None:
    assert {json.loads(path.read_text())["type"] for path in CORPUS} >= set(TYPES)


@pytest.mark.gen_test(timeout=30)
async def test_a_socket_survives_three_hundred_damaged_frames(
    make_server: Any, scripted_ears: Any, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server(scripted_ears, limits={"messages_per_second": 0}, sessions={"end_wait": 0})
    socket = await connect(server)
    chance = random.Random(1)
    seeds = [path.read_text() for path in CORPUS if path.name not in ("hello", "auth")]
    for _ in range(300):
        one, other = chance.choices(seeds, k=2)
        kept = chance.randrange(len(one)) if chance.random() < 0.5 else len(one)
        await socket.send(one[:kept] + other[kept:])
    await socket.send({"type": "hello"})
    await socket.message_of("connected")
    assert {message["type"] for message in socket.seen} >= {"session_started", "session_ended", "error"}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
