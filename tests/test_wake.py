"""The wake-word service, spoken to by the `wyoming` package's own client and messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sounds
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import write_tiny
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event as Message
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from kws.audio.convert import LiveConverter
from kws.cli import run
from kws.decide import DecisionConfig, Event
from kws.errors import KwsError
from kws.spotter import TAIL_SAMPLES, Spotter
from kws.wake.service import Conversation, Reply, WakeService

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained network that takes noise for "yes" and "no", often."""
    decision = DecisionConfig(
        thresholds={"yes": 0.45, "no": 0.45}, smoothing_ms=80, refractory_ms=400, release=0.95
    )
    return str(write_tiny(tmp_path_factory.mktemp("wake") / "tiny.tflite", decision=decision))


@pytest.fixture(scope="module")
def babble() -> np.ndarray:
    return sounds.babble()


def heard_by_spotter(model: str, pcm: np.ndarray) -> list[Event]:
    """What the runner makes of a recording."""
    spotter = Spotter(model)
    return spotter.feed(pcm) + spotter.feed(np.zeros(TAIL_SAMPLES, np.int16))


def chunks_of(
    pcm: np.ndarray, chunk_ms: int = 30, rate_hz: int = RATE_HZ, channels: int = 1
) -> Iterator[Message]:
    """A client's messages for a recording, [n] or [n, channels], stamped by its own clock."""
    step = rate_hz * chunk_ms // 1000
    for start in range(0, len(pcm), step):
        yield AudioChunk(
            rate=rate_hz,
            width=2,
            channels=channels,
            audio=pcm[start : start + step].astype("<i2").tobytes(),
            timestamp=70_000 + 1000 * start // rate_hz,
        ).event()


def start(rate_hz: int = RATE_HZ, width: int = 2, channels: int = 1) -> Message:
    return AudioStart(rate=rate_hz, width=width, channels=channels).event()


def detections(answers: list[Message]) -> list[Detection]:
    return [Detection.from_event(a) for a in answers if Detection.is_type(a.type)]


def talk(model: str, messages: list[Message]) -> list[Message]:
    """All answers of a new conversation to these messages."""
    conversation = Conversation(WakeService([model]))
    return [answer for message in messages for answer in conversation.take(message).messages]


# --- what is said ---


def test_a_client_that_asks_learns_each_keyword_of_each_model(model: str, tmp_path: Path) -> None:
    other = write_tiny(
        tmp_path / "other.tflite",
        labels=("_silence_", "_unknown_", "computer", "mouse"),
        keywords=("computer",),
        decision=DecisionConfig(thresholds={"computer": 0.5}),
    )
    service = WakeService([model, other])
    info = Info.from_event(Conversation(service).take(Describe().event()).messages[0])
    (program,) = info.wake
    assert [wake.name for wake in program.models] == ["yes", "no", "computer"]
    assert [wake.phrase for wake in program.models] == ["yes", "no", "computer"]
    assert program.installed and all(wake.installed for wake in program.models)


def test_a_client_is_told_the_events_of_the_spotter_by_its_own_clock(
    model: str, babble: np.ndarray
) -> None:
    expected = heard_by_spotter(model, babble)
    conversation = Conversation(WakeService([model]))
    assert conversation.take(Detect().event()) == conversation.take(start()) == Reply()
    heard, told = [], []
    for message in [*chunks_of(babble), AudioStop().event()]:
        reply = conversation.take(message)
        told += reply.events
        for detection in detections(reply.messages):
            assert detection.timestamp == message.data.get("timestamp", 73_990)
            heard.append(detection)
    assert [d.name for d in heard] == [e.keyword for e in expected]
    assert told == expected != []
    # The chunk that brought the event, 30 ms long, ended just after the event's time.
    for detection, event in zip(heard, expected, strict=True):
        assert detection.timestamp is not None
        if event.time_s < len(babble) / RATE_HZ:
            assert -60 <= event.time_s * 1000 - (detection.timestamp - 70_000) <= 30


@settings(max_examples=15, deadline=None)
@given(chunk_ms=st.integers(1, 900))
def test_any_cutting_of_the_audio_gives_the_same_words(
    model: str, babble: np.ndarray, chunk_ms: int
) -> None:
    answers = talk(model, [start(), *chunks_of(babble, chunk_ms), AudioStop().event()])
    expected = [event.keyword for event in heard_by_spotter(model, babble)]
    assert [d.name for d in detections(answers)] == expected


def test_only_the_words_that_a_client_waits_for_are_told(model: str, babble: np.ndarray) -> None:
    both = {event.keyword for event in heard_by_spotter(model, babble)}
    assert both == {"yes", "no"}
    answers = talk(
        model,
        [Detect(names=["no"]).event(), start(), *chunks_of(babble), AudioStop().event()],
    )
    assert {d.name for d in detections(answers)} == {"no"}
    assert not any(NotDetected.is_type(answer.type) for answer in answers)


def test_what_a_client_gave_with_its_wish_comes_back_with_the_word(
    model: str, babble: np.ndarray
) -> None:
    wish = Detect(context={"conversation": 7}).event()
    silence = np.zeros(8000, np.int16)
    told = detections(talk(model, [wish, start(), *chunks_of(babble), AudioStop().event()]))
    assert len(told) > 2
    assert all(detection.context == {"conversation": 7} for detection in told)
    (none,) = talk(model, [wish, start(), *chunks_of(silence), AudioStop().event()])
    assert NotDetected.from_event(none).context == {"conversation": 7}


def test_audio_without_a_word_ends_with_not_detected(model: str) -> None:
    silence = np.zeros(RATE_HZ, np.int16)
    answers = talk(model, [start(), *chunks_of(silence), AudioStop().event()])
    assert [answer.type for answer in answers] == ["not-detected"]
    assert [a.type for a in talk(model, [AudioStop().event()])] == ["not-detected"]


def test_a_word_at_the_very_end_is_still_told(model: str, babble: np.ndarray) -> None:
    cuts = (babble[:n] for n in range(8000, len(babble), 800))
    expected, pcm = next(
        (whole, cut)
        for cut in cuts
        if len(whole := heard_by_spotter(model, cut)) > len(Spotter(model).feed(cut))
    )
    answers = talk(model, [start(), *chunks_of(pcm), AudioStop().event()])
    assert [d.name for d in detections(answers)] == [event.keyword for event in expected]


def test_the_end_of_a_stream_of_another_rate_is_heard_to_its_last_sample(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    feed = Spotter.feed
    monkeypatch.setattr(
        Spotter, "feed", lambda spotter, pcm: heard.append(len(pcm)) or feed(spotter, pcm)
    )
    sound = np.ones(8000, np.int16)
    talk(model, [start(8000), *chunks_of(sound, rate_hz=8000), AudioStop().event()])
    assert sum(heard) == 16_000 + TAIL_SAMPLES


def test_a_second_stream_remembers_nothing_of_the_first(model: str, babble: np.ndarray) -> None:
    once = [start(), *chunks_of(babble), AudioStop().event()]
    alone, twice = talk(model, once), talk(model, once + once)
    assert len(detections(alone)) > 2
    assert [a.type for a in twice] == [a.type for a in alone] * 2
    # A start is a new stream even where the one before never ended.
    cut_off = talk(model, [start(), *chunks_of(babble[:7000]), *once])
    first = talk(model, [start(), *chunks_of(babble[:7000])])
    assert [a.type for a in cut_off] == [a.type for a in first + alone]


def test_audio_without_a_start_is_heard_as_well(model: str, babble: np.ndarray) -> None:
    whole = [*chunks_of(babble), AudioStop().event()]
    assert talk(model, whole) == talk(model, [start(), *whole])


def test_other_rates_and_channels_are_converted(model: str, babble: np.ndarray) -> None:
    stereo = np.repeat(np.repeat(babble, 3)[:, None], 2, axis=1)
    messages = [
        start(48_000, channels=2),
        *chunks_of(stereo, rate_hz=48_000, channels=2),
        AudioStop().event(),
    ]
    converter = LiveConverter(48_000)
    pcm = np.concatenate([converter.feed(stereo), converter.finish()])
    assert len(pcm) == len(babble)
    expected = [event.keyword for event in heard_by_spotter(model, pcm)]
    assert len(expected) > 2
    assert [d.name for d in detections(talk(model, messages))] == expected


def test_messages_about_other_things_are_passed_over(model: str) -> None:
    assert talk(model, [Message("transcribe", {"language": "en"}), Message("news")]) == []
    (pong,) = talk(model, [Ping(text="still there?").event()])
    assert Pong.from_event(pong).text == "still there?"


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (start(width=4), "16-bit samples. Received: 4 bytes per sample"),
        (start(channels=0), "1 to 16 channels. Received: rate 16000, width 2, channels 0"),
        (start(rate_hz=1), "8000 to 192000 Hz and 1 to 16 channels. Received: rate 1,"),
        (start(rate_hz=10**18), "8000 to 192000 Hz"),
        (start(rate_hz=float("inf")), "of type 'audio-start'. Received: rate inf"),  # type: ignore[arg-type]
        (start(rate_hz=True), "of type 'audio-start'. Received: rate True"),
        (
            Message("audio-start", {"rate": 16000}),
            "of type 'audio-start'. Received: KeyError: 'width'",
        ),
        (Message("audio-start", {"rate": "x\n", "width": 2, "channels": 1}), r"rate 'x\n'"),
        (Message("detect", {"names": 5}), "of type 'detect'. Received: names 5"),
        (Message("detect", {"names": ["yes", 5]}), "Received: names ['yes', 5]"),
        (
            Message("audio-chunk", {"rate": 16000, "width": 2, "channels": 1}, b"\0\0\0"),
            "of type 'audio-chunk'. Received: 3 bytes for 1 channels",
        ),
        (
            Message("audio-chunk", {"rate": 16000, "width": 2, "channels": 2}, b"\0\0"),
            "of type 'audio-chunk'. Received: 2 bytes for 2 channels",
        ),
    ],
)
def test_a_message_that_makes_no_sense_is_refused_in_a_line(
    model: str, message: Message, complaint: str
) -> None:
    with pytest.raises(KwsError, match=re.escape(complaint)) as error:
        talk(model, [message])
    assert "\n" not in str(error.value)


def test_two_models_with_one_word_are_refused_in_any_case(model: str, tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"'yes' in .*tiny.tflite and .*tiny.tflite"):
        WakeService([model, model])
    other = write_tiny(
        tmp_path / "other.tflite",
        labels=("_silence_", "_unknown_", "Yes", "mouse"),
        keywords=("Yes",),
        decision=DecisionConfig(thresholds={"Yes": 0.5}),
    )
    with pytest.raises(KwsError, match=r"'Yes' in .*tiny.tflite and .*other.tflite"):
        WakeService([model, other])


def test_a_threshold_replaces_those_of_the_model(model: str, babble: np.ndarray) -> None:
    conversation = Conversation(WakeService([model], 1.0))
    messages = [start(), *chunks_of(babble), AudioStop().event()]
    replies = [conversation.take(message) for message in messages]
    assert [m.type for reply in replies for m in reply.messages] == ["not-detected"]


def test_words_that_nobody_listens_for_are_noted_and_the_others_told(
    model: str, babble: np.ndarray
) -> None:
    conversation = Conversation(WakeService([model]))
    reply = conversation.take(Detect(names=["ok_nabu", "No", "\x1b[2J"]).event())
    assert reply == Reply(
        notes=["a client waits for unknown words: 'ok_nabu', '\\x1b[2J'; served are: yes, no"]
    )
    heard = [d for m in chunks_of(babble) for d in detections(conversation.take(m).messages)]
    assert {d.name for d in heard} == {"no"}
    # None of them: heard and told of nothing, as by a service for other words.
    conversation.take(Detect(names=["ok_nabu"]).event())
    assert not [m for c in chunks_of(babble) for m in conversation.take(c).messages]


def test_a_model_that_was_replaced_is_not_served_under_the_old_names(
    model: str, tmp_path: Path
) -> None:
    path = tmp_path / "live.tflite"
    path.write_bytes(Path(model).read_bytes())
    service = WakeService([path])
    write_tiny(path, keywords=("yes",), decision=DecisionConfig(thresholds={"yes": 0.5}))
    with pytest.raises(KwsError, match="has changed since the service started"):
        Conversation(service).take(start())


# --- sockets: the command in a process of its own ---


class Served:
    """A running `kws serve`."""

    def __init__(self, *arguments: str, uri: str) -> None:
        self.uri = uri
        command = [sys.executable, "-m", "kws", "serve", "--uri", uri, *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.first_line = self.process.stderr.readline()

    def talk(self, conversation: Callable[[AsyncClient], Awaitable[None]]) -> None:
        """Connect with the protocol's own client."""

        async def connected() -> None:
            async with AsyncClient.from_uri(self.uri, 10, 20) as client:
                await conversation(client)

        asyncio.run(connected())

    def end(self, number: int = signal.SIGINT) -> tuple[str, str]:
        """Interrupt it; what it printed, and what it said at last."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, err
        return out, err


@pytest.fixture
def served(model: str) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = Served("--model", model, "--json", uri=f"tcp://127.0.0.1:{port}")
    yield service
    service.process.kill()
    service.process.communicate()


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and Unix sockets")


async def say(client: AsyncClient, messages: list[Message]) -> None:
    for message in messages:
        await client.write_event(message)


async def until_the_end(client: AsyncClient) -> list[Message]:
    """Answers up to the one to a ping that is sent now."""
    await client.write_event(Ping(text="end").event())
    answers = []
    while (answer := await client.read_event()) is not None and answer.type != "pong":
        answers.append(answer)
    return answers


@POSIX
def test_clients_side_by_side_hear_each_their_own_audio(
    served: Served, model: str, babble: np.ndarray
) -> None:
    expected = heard_by_spotter(model, babble)
    assert served.first_line == f"serving yes, no at {served.uri} (Ctrl-C ends)\n"

    async def two(one: AsyncClient) -> None:
        async with AsyncClient.from_uri(served.uri, 10, 20) as other:
            await say(one, [Describe().event()])
            assert Info.is_type((await one.read_event()).type)  # type: ignore[union-attr]
            await say(one, [start()])
            await say(other, [start()])
            for mine, silent in zip(
                chunks_of(babble), chunks_of(np.zeros_like(babble)), strict=True
            ):
                await one.write_event(mine)
                await other.write_event(silent)
            await say(one, [AudioStop().event()])
            await say(other, [AudioStop().event()])
            heard = detections(await until_the_end(one))
            assert [d.name for d in heard] == [event.keyword for event in expected]
            assert [a.type for a in await until_the_end(other)] == ["not-detected"]

    served.talk(two)
    out, err = served.end()
    printed = [json.loads(line) for line in out.splitlines()]
    assert [(e["keyword"], e["time_s"]) for e in printed] == [
        (event.keyword, round(event.time_s, 3)) for event in expected
    ]
    assert err == f"served 2 clients, 8 s of audio, {len(expected)} events\n"


@POSIX
def test_it_ends_well_while_a_client_is_still_connected(served: Served) -> None:
    async def stay(client: AsyncClient) -> None:
        await say(client, [start()])
        await until_the_end(client)
        _, err = await asyncio.to_thread(served.end, signal.SIGTERM)
        assert err == "served 0 clients, 0 s of audio, 0 events\n"
        assert await client.read_event() is None

    served.talk(stay)


@POSIX
@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"5\n",
        b"{}\n",
        b'{"type": "audio-chunk", "payload_length": 99}\nshort',
        b'{"type": "audio-start"}\n',
        b'{"type": "ping", "data": {"text": "\\ud800"}}\n',
        b'{"type": "ping", "data_length": 2}\n[]',
        b"[" * 60_000 + b"\n",
        np.random.default_rng(3).bytes(3000) + b"\n",
    ],
)
def test_rubbish_ends_that_client_alone_in_a_line_at_most(served: Served, rubbish: bytes) -> None:
    host, port = served.uri.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(rubbish)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass

    async def still_there(client: AsyncClient) -> None:
        assert await until_the_end(client) == []

    served.talk(still_there)
    _, err = served.end()
    *complaints, summary = err.splitlines()
    assert summary.startswith("served 0 clients")
    assert len(complaints) <= 1
    assert all(line.startswith("kws: refused a client: ") for line in complaints)


@POSIX
def test_a_refused_client_is_told_why(served: Served) -> None:
    async def speak(client: AsyncClient) -> None:
        await say(client, [start(rate_hz=10**18)])
        answer = await client.read_event()
        assert answer is not None
        assert "8000 to 192000 Hz" in Error.from_event(answer).text
        assert await client.read_event() is None

    served.talk(speak)
    served.talk(speak)
    _, err = served.end()
    assert err.count("kws: refused a client: Audio must have 8000") == 1  # said once


def without_pause(served: Served, message: bytes, most_bytes: int) -> bytes:
    """What a client is told that sends this again and again, and reads only afterwards."""
    host, port = served.uri.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        for _ in range(most_bytes // len(message)):
            client.sendall(message)
        answer = b""
        while received := client.recv(4096):
            answer += received
    return answer


@POSIX
@pytest.mark.parametrize(
    ("rate_hz", "width", "payload_bytes", "says"),
    [
        (16_000, 4, 3200, b"Audio must be 16-bit samples. Received: 4 bytes per sample"),
        (0, 2, 3200, b"Audio must have 8000 to 192000 Hz"),
        (16_000, 2, 3201, b"Received: 3201 bytes for 1 channels"),
    ],
)
def test_a_refused_client_that_keeps_sending_is_told_why(
    served: Served, rate_hz: int, width: int, payload_bytes: int, says: bytes
) -> None:
    head = {
        "type": "audio-chunk",
        "data": {"rate": rate_hz, "width": width, "channels": 1},
        "payload_length": payload_bytes,
    }
    chunk = json.dumps(head).encode() + b"\n" + bytes(payload_bytes)
    for _ in range(3):
        assert says in without_pause(served, chunk, 4 << 20)


@POSIX
def test_a_refused_client_that_never_stops_sending_is_cut_off(served: Served) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        without_pause(served, b"{}\n" * 1000, 1 << 40)
    assert time.monotonic() - began < 10


@POSIX
def test_it_ends_at_once_while_a_refused_client_is_still_connected(served: Served) -> None:
    host, port = served.uri.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"{}\n")
        while client.recv(4096):
            pass
        _, err = served.end(signal.SIGTERM)
    assert err.endswith("served 0 clients, 0 s of audio, 0 events\n")


@POSIX
@pytest.mark.parametrize("what", ["data_length", "payload_length"])
def test_a_client_that_announces_gigabytes_is_refused_before_it_sends_them(
    served: Served, what: str
) -> None:
    host, port = served.uri.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b'{"type": "audio-chunk", "%s": 5000000000}\n' % what.encode())
        answer = b""
        while received := client.recv(4096):
            answer += received
    assert b"at most 16,777,216 bytes. Received: a header that announces 5,000,000,000" in answer
    _, err = served.end()
    assert err.startswith("kws: refused a client: A message may hold at most 16,777,216 bytes")


@POSIX
def test_where_nobody_reads_what_is_printed_clients_hear_of_it_and_the_service_ends(
    served: Served, babble: np.ndarray
) -> None:
    assert served.process.stdout is not None
    served.process.stdout.close()

    async def speak(client: AsyncClient) -> None:
        await say(client, [start(), *chunks_of(babble)])
        answer = await client.read_event()
        assert answer is not None and Detection.is_type(answer.type)
        while await client.read_event() is not None:
            pass

    with contextlib.suppress(ConnectionError):
        served.talk(speak)
    assert served.process.wait(timeout=20) == 1
    assert served.process.stderr is not None
    assert "Traceback" not in served.process.stderr.read()


@POSIX
def test_a_unix_socket_serves_as_well_is_not_stolen_and_is_gone_afterwards(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kws.sock"
    service = Served("--model", model, uri=f"unix://{path}")

    async def ask(client: AsyncClient) -> None:
        assert await until_the_end(client) == []

    assert run(["serve", "--model", model, "--uri", f"unix://{path}"]) == 1
    assert capsys.readouterr().err.startswith(f"kws: Another service is running at {path}.")
    service.talk(ask)
    service.end()
    assert not path.exists()


@POSIX
def test_a_file_at_the_place_of_a_unix_socket_is_kept(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "precious.txt"
    path.write_text("data")
    assert run(["serve", "--model", model, "--uri", f"unix://{path}"]) == 1
    assert capsys.readouterr().err.startswith(f"kws: {path} is not a socket")
    assert path.read_text() == "data"


@POSIX
def test_a_socket_that_a_crash_left_behind_is_replaced(model: str, tmp_path: Path) -> None:
    path = tmp_path / "kws.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    service = Served("--model", model, uri=f"unix://{path}")
    assert service.first_line.startswith("serving yes, no")
    service.end()


def test_an_address_in_use_is_one_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        uri = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        assert run(["serve", "--model", model, "--uri", uri]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        rf"kws: Cannot serve at this address\. Received: {uri} .* Stop the program that .*\n", err
    )


@pytest.mark.parametrize("uri", ["tcp://a..b:12600", "tcp://192.0.2.1:12600", "unix:///no/where.s"])
def test_an_address_that_cannot_be_had_is_one_line(
    model: str, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--model", model, "--uri", uri]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(
        rf"kws: Cannot serve at this address\. Received: {uri} .* Choose another with --uri\n", err
    )


@pytest.mark.parametrize(
    "uri",
    [
        *("tcp://localhost", "tcp://:10400", "tcp://localhost:99999", "tcp://localhost:0"),
        *("tcp://localhost:1/path", "http://localhost:1", "10400", "stdio://"),
        *("unix://", "unix://kws.sock", "unix://folder/kws.sock", "unix:///"),
    ],
)
def test_what_is_no_address_is_one_line(
    model: str, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--model", model, "--uri", uri]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(r"kws: Not a valid address\. Received: .*\n", err)


def test_without_the_package_the_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wyoming", None)
    assert run(["serve"]) == 1
    assert "pip install 'kws[wyoming]'" in capsys.readouterr().err
