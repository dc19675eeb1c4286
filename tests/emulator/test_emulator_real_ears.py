"""The emulator really hears: recorded speech, and sentences that nobody could have looked up."""

from __future__ import annotations

import asyncio
import json
import random
import re
import wave
from pathlib import Path

import pytest
from raw_client import RawClient, audio, texts

from tornado_live.emulator import EmulatorThread
from tornado_live.emulator.resample import Resampler
from tornado_live.emulator.voice import EspeakVoice

SPEECH = Path(__file__).parents[1] / "data" / "speech"
SILENCE = bytes(2 * 32_000)
MANUAL = {"automaticActivityDetection": {"disabled": True}}
WORDS = (
    "river table window garden yellow summer doctor paper kitchen "
    "mountain monkey winter orange music forest pencil camera elephant "
    "computer chocolate library president history battery animal family telephone"
).split()

pytestmark = [pytest.mark.slow, pytest.mark.gen_test(timeout=60)]


def recording(name: str) -> tuple[bytes, list[str]]:
    with wave.open(str(SPEECH / name)) as file:
        pcm = file.readframes(file.getnframes())
    entries = json.loads((SPEECH / "transcripts.json").read_text())
    return pcm, words(next(entry["text"] for entry in entries if entry["file"] == name))


def words(text: str) -> list[str]:
    return re.sub(r"[^a-z ]", "", text.lower()).split()


def wrong(heard: list[str], spoken: list[str]) -> int:
    """Words to change, insert or delete (Levenshtein distance)."""
    row = list(range(len(spoken) + 1))
    for count, word in enumerate(heard, 1):
        diagonal, row[0] = row[0], count
        for at, other in enumerate(spoken, 1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (word != other))
    return row[-1]


async def test_recorded_speech_in_real_time_has_guesses_and_a_transcript(real_ears: EmulatorThread) -> None:
    pcm, spoken = recording("librispeech_1988-24833-0001.wav")
    client = await RawClient.open(real_ears, inputAudioTranscription={})
    piece = 8000
    for start in range(0, len(pcm) + len(SILENCE), piece):
        await client.send_audio((pcm + SILENCE)[start : start + piece])
        await asyncio.sleep(0.25)
    turn = await client.turn(timeout_s=30)
    heard = words(texts(turn, "inputTranscription"))
    assert wrong(heard, spoken) <= len(spoken) * 0.2
    guesses = texts(turn, "interimInputTranscription")
    assert wrong(words(guesses)[: len(spoken)], spoken) < len(spoken)
    assert len(audio(turn)) > 24_000
    await client.close()


async def test_jfk_as_one_utterance_has_every_word(real_ears: EmulatorThread) -> None:
    pcm, spoken = recording("jfk.wav")
    client = await RawClient.open(real_ears, inputAudioTranscription={}, realtimeInputConfig=MANUAL)
    await client.send({"realtimeInput": {"activityStart": {}}})
    await client.send_audio(pcm)
    await client.send({"realtimeInput": {"activityEnd": {}}})
    turn = await client.turn(timeout_s=30)
    assert wrong(words(texts(turn, "inputTranscription")), spoken) <= 1
    await client.close()


async def test_jfk_in_a_burst_loses_no_words_to_interruptions(real_ears: EmulatorThread) -> None:
    pcm, spoken = recording("jfk.wav")
    client = await RawClient.open(real_ears, inputAudioTranscription={})
    await client.send_audio(pcm + SILENCE)
    while len(words(texts(client.received, "inputTranscription"))) < len(spoken) - 3:
        await client.until("inputTranscription", timeout_s=30)
    pieces = [m["serverContent"]["inputTranscription"]["text"] for m in client.received
              if "inputTranscription" in m.get("serverContent", {})]  # fmt: skip
    assert wrong(words(" ".join(pieces)), spoken) <= 3
    await client.close()


async def test_random_words_spoken_by_espeak_come_back(real_ears: EmulatorThread) -> None:
    spoken = random.sample(WORDS, 8)
    voice = EspeakVoice()
    speech = b"".join([piece.pcm async for piece in voice.speak(f"The {', the '.join(spoken)}.")])
    await voice.close()
    resampler = Resampler(24_000, 16_000)
    client = await RawClient.open(real_ears, inputAudioTranscription={})
    await client.send_audio(resampler.process(speech) + resampler.flush() + SILENCE)
    turn = await client.turn(timeout_s=30)
    heard = words(texts(turn, "inputTranscription"))
    assert len(set(heard) & set(spoken)) >= 5, f"spoken: {spoken}, heard: {heard}"
    await client.close()


async def test_noise_and_silence_are_not_words(real_ears: EmulatorThread) -> None:
    noise = random.Random(1)
    hiss = b"".join(noise.randint(-800, 800).to_bytes(2, "little", signed=True) for _ in range(32_000))
    client = await RawClient.open(real_ears, inputAudioTranscription={})
    await client.send_audio(hiss + SILENCE)
    await client.say("what is one plus one")
    assert texts(await client.turn(timeout_s=30), "outputTranscription") == "one plus one is 2."
    assert texts(client.received, "inputTranscription") == ""
    await client.close()


async def test_a_talk_goes_on_while_a_long_recording_is_recognised(real_ears: EmulatorThread) -> None:
    long, _ = recording("jfk.wav")
    short, spoken = recording("librispeech_3752-4944-0000.wav")
    batch = await RawClient.open(real_ears, inputAudioTranscription={}, realtimeInputConfig=MANUAL)
    await batch.send({"realtimeInput": {"activityStart": {}}})
    await batch.send_audio((long + SILENCE) * 6)
    talk = await RawClient.open(real_ears, inputAudioTranscription={})
    started = asyncio.get_running_loop().time()
    await talk.send_audio(short + SILENCE)
    await talk.until("inputTranscription", timeout_s=30)
    assert asyncio.get_running_loop().time() - started < 4
    assert wrong(words(texts(talk.received, "inputTranscription")), spoken) <= 3
    await batch.close()
    await talk.close()
