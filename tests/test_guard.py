"""A codec plugin may raise, hang or return nonsense: the server sees a named error."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tornado_live.audio import Codec, StreamInfo
from tornado_live.errors import AudioMalformed, CodecFailed
from tornado_live.guard import FaultCounter, GuardedDecoder


class Plugin:
    """A third party's decoder whose `decode` does what `behaviour` says."""

    def __init__(self, behaviour: object) -> None:
        self.behaviour = behaviour
        self.info: object = StreamInfo("beep", "beep", 16_000, 1)
        self.init_segment: object = b"header"

    def decode(self, data: bytes) -> object:
        return self.behaviour() if callable(self.behaviour) else self.behaviour

    def flush(self) -> object:
        return b""


CODEC = Codec("beep", "a test", (), lambda head, declared: True, lambda declared, limits: None)  # type: ignore[arg-type, return-value]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def faults(clock: Clock) -> FaultCounter:
    return FaultCounter(clock)


def guarded(behaviour: object, faults: FaultCounter | None) -> GuardedDecoder:
    return GuardedDecoder(CODEC, Plugin(behaviour), faults)  # type: ignore[arg-type]


def raising(error: BaseException) -> object:
    def behaviour() -> NoReturn:
        raise error

    return behaviour


def test_audio_passes_through(faults: FaultCounter) -> None:
    decoder = guarded(b"\1\2", faults)
    assert decoder.decode(b"x") + decoder.flush() == b"\1\2"
    assert decoder.info == StreamInfo("beep", "beep", 16_000, 1)
    assert decoder.init_segment == b"header"


def test_error_about_the_audio_passes_through_and_is_no_fault(faults: FaultCounter) -> None:
    for _ in range(5):
        with pytest.raises(AudioMalformed):
            guarded(raising(AudioMalformed()), faults).decode(b"x")
    assert not faults.is_off("beep")


@pytest.mark.parametrize(
    "behaviour",
    [raising(ValueError("secret")), raising(SystemExit(1)), None, "text", bytearray(2), b"odd", 7],
    ids=["raises", "exits", "None", "str", "bytearray", "half a sample", "int"],
)
def test_anything_else_is_the_named_codec_s_failure(faults: FaultCounter, behaviour: object) -> None:
    decoder = guarded(behaviour, faults)
    with pytest.raises(CodecFailed, match="beep") as caught:
        decoder.decode(b"x")
    assert "secret" not in caught.value.message
    with pytest.raises(CodecFailed, match="beep"):
        decoder.decode(b"x")


@pytest.mark.parametrize(("name", "value"), [("info", "webm"), ("init_segment", None)])
def test_property_of_a_wrong_type_is_a_failure(faults: FaultCounter, name: str, value: object) -> None:
    plugin = Plugin(b"")
    setattr(plugin, name, value)
    with pytest.raises(CodecFailed, match="beep"):
        GuardedDecoder(CODEC, plugin, faults).decode(b"x")  # type: ignore[arg-type]


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """What a plugin waits for, in vain for longer than its deadline."""
    event = threading.Event()
    yield event
    event.set()


def test_codec_that_hangs_is_named_and_left_behind(faults: FaultCounter, hang: threading.Event) -> None:
    decoder = GuardedDecoder(CODEC, Plugin(hang.wait), faults, deadline_s=0.05)  # type: ignore[arg-type]
    with pytest.raises(CodecFailed, match="beep does not answer"):
        decoder.decode(b"x")


def test_three_faults_within_a_minute_switch_a_codec_off(faults: FaultCounter, clock: Clock) -> None:
    for clock.now in (0.0, 30.0, 59.0):
        assert not faults.is_off("beep")
        with pytest.raises(CodecFailed):
            guarded(None, faults).decode(b"x")
    assert faults.is_off("beep")
    assert not faults.is_off("other")


def test_faults_that_are_far_apart_do_not_switch_it_off(faults: FaultCounter, clock: Clock) -> None:
    for clock.now in (0.0, 50.0, 100.0, 150.0, 200.0):
        faults.count("beep")
    assert not faults.is_off("beep")


def test_built_in_codec_is_called_on_the_thread_of_its_caller() -> None:
    here = threading.get_ident()
    assert guarded(lambda: threading.get_ident().to_bytes(8, sys.byteorder), None).decode(
        b""
    ) == here.to_bytes(8, sys.byteorder)
