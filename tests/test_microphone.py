from __future__ import annotations

import math
import sys
import time

import numpy as np
import pytest
from fake_sounddevice import FakeInput, install

from kws.audio.convert import LiveConverter
from kws.audio.level import level_dbfs
from kws.audio.microphone import InputWatch, find_device, list_devices, open_microphone
from kws.errors import KwsError


def tone(hz: float, seconds: float, rate_hz: int, amplitude: float = 8000) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.rint(amplitude * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def hear(seconds: float, device: int | str | None = None) -> tuple[np.ndarray, object]:
    """What the microphone gives in the first `seconds`, and the microphone."""
    blocks: list[np.ndarray] = []
    with open_microphone(device) as microphone:
        for block in microphone:
            blocks.append(block)
            if sum(map(len, blocks)) >= seconds * 16000:
                return np.concatenate(blocks), microphone
    raise AssertionError


def test_a_16_khz_device_is_taken_as_it_is_sample_for_sample(monkeypatch):
    said = np.random.default_rng(1).integers(-3000, 3000, 16000).astype(np.int16)
    install(monkeypatch, FakeInput(name="Mic", audio=said, rates=(48000, 16000)))
    heard, microphone = hear(1.0)
    np.testing.assert_array_equal(heard[:16000], said)
    assert heard.dtype == np.int16
    assert microphone.capture_rate_hz == 16000
    assert (microphone.overflows, microphone.lost_s) == (0, 0)


@pytest.mark.parametrize("rate_hz", [48000, 44100])
def test_other_rates_are_resampled_so_that_a_tone_keeps_its_pitch_and_level(monkeypatch, rate_hz):
    pytest.importorskip("soxr")
    install(
        monkeypatch, FakeInput(name="Mic", audio=tone(1000, 2, rate_hz), rates=(rate_hz,), speed=30)
    )
    heard, microphone = hear(1.5)
    assert microphone.capture_rate_hz == rate_hz
    middle = heard[4000:20000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(np.argmax(spectrum) * 16000 / len(middle) - 1000) < 2
    assert level_dbfs(middle) == pytest.approx(
        20 * math.log10(8000 / math.sqrt(2) / 32768), abs=0.1
    )


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000])
def test_live_sound_is_converted_to_its_last_sample_as_in_one_piece(rate_hz):
    soxr = pytest.importorskip("soxr")
    said = tone(440, 0.5, rate_hz)
    converter = LiveConverter(rate_hz)
    blocks = [converter.feed(block[:, None]) for block in np.array_split(said, 50)]
    heard = np.concatenate([*blocks, converter.finish()])
    oracle = np.rint(soxr.resample(said.astype(np.float32), rate_hz, 16000, quality="HQ"))
    assert len(heard) == len(oracle) == 8000
    assert np.abs(heard - oracle).max() <= 1


def test_channels_are_averaged_where_a_device_has_no_mono(monkeypatch):
    stereo = np.stack([np.full(8000, 1000), np.full(8000, 3000)], axis=1).astype(np.int16)
    install(monkeypatch, FakeInput(name="Mic", audio=stereo, channels=(2,)))
    heard, microphone = hear(0.4)
    assert microphone.channels == 2
    assert set(heard[:6000].tolist()) == {2000}


def test_a_device_without_any_usual_rate_is_refused_in_one_line(monkeypatch):
    pytest.importorskip("soxr")
    install(monkeypatch, FakeInput(name="Odd", rates=(11025,)))
    heard_rate = open_microphone()
    with heard_rate as microphone:  # Its own preferred rate is tried, too.
        assert microphone.capture_rate_hz == 11025
    install(monkeypatch, FakeInput(name="Odd", channels=(7,)))
    monkeypatch.setattr(
        sys.modules["sounddevice"],
        "check_input_settings",
        lambda **_: (_ for _ in ()).throw(sys.modules["sounddevice"].PortAudioError("no\nway")),
    )
    with (
        pytest.raises(KwsError, match=r"'Odd' cannot be opened.*no way") as caught,
        open_microphone(),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_overflows_of_the_device_are_counted(monkeypatch):
    install(
        monkeypatch,
        FakeInput(name="Mic", audio=tone(300, 1, 16000), overflow_blocks=(2, 3, 9)),
    )
    _, microphone = hear(0.8)
    assert microphone.overflows == 3


def test_audio_that_a_slow_reader_leaves_behind_is_counted_and_the_rest_kept(monkeypatch):
    ramp = np.arange(32000, dtype=np.int16)
    install(monkeypatch, FakeInput(name="Mic", audio=ramp, speed=0, end="unplugged"))
    with open_microphone(buffer_s=0.4) as microphone:
        time.sleep(0.3)  # All two seconds arrive meanwhile; 0.4 s of them have room.
        heard = []
        with pytest.raises(KwsError, match="has stopped"):
            for block in microphone:
                heard.append(block)
                monkeypatch.setattr("kws.audio.microphone._GONE_AFTER_S", 0.1)
    np.testing.assert_array_equal(np.concatenate(heard), ramp[:6400])
    assert microphone.lost_s == pytest.approx(1.6)


@pytest.mark.parametrize("end", ["unplugged", "aborted"])
def test_a_device_that_goes_away_ends_the_reading_with_its_name(monkeypatch, end):
    monkeypatch.setattr("kws.audio.microphone._GONE_AFTER_S", 0.4)
    module = install(monkeypatch, FakeInput(name="USB stick", audio=tone(300, 0.5, 16000), end=end))
    heard = 0
    with (
        pytest.raises(KwsError, match=r"has stopped.*'USB stick'"),
        open_microphone() as microphone,
    ):
        for block in microphone:
            heard += len(block)
    assert heard == pytest.approx(8000, abs=640)
    assert module.opened[0].closed


def test_the_stream_is_closed_when_the_block_is_left(monkeypatch):
    module = install(monkeypatch, FakeInput(name="Mic"))
    with pytest.raises(KeyboardInterrupt), open_microphone():
        raise KeyboardInterrupt
    assert module.opened[0].closed


def test_a_device_in_use_is_reported_in_one_line_and_closed(monkeypatch):
    module = install(monkeypatch, FakeInput(name="Mic", busy=True))
    with (
        pytest.raises(KwsError, match=r"'Mic' cannot be opened.*Device unavailable"),
        open_microphone(),
    ):
        pass
    assert module.opened[0].closed


def test_only_inputs_are_listed_and_the_default_is_marked(monkeypatch):
    install(monkeypatch, FakeInput(name="Webcam"), FakeInput(name="USB"), default=2)
    assert [(d.index, d.name, d.is_default) for d in list_devices()] == [
        (1, "Webcam", False),
        (2, "USB", True),
    ]
    assert find_device().name == "USB"


def test_without_a_default_the_first_input_is_taken(monkeypatch):
    install(monkeypatch, FakeInput(name="Webcam"), FakeInput(name="USB"), default=None)
    assert find_device().name == "Webcam"


def test_devices_are_found_by_number_or_part_of_the_name(monkeypatch):
    install(
        monkeypatch,
        FakeInput(name="USB Microphone"),
        FakeInput(name="USB Microphone 2"),
        FakeInput(name="Webcam"),
    )
    assert find_device("web").index == 3
    assert find_device("2").name == "USB Microphone 2"
    assert find_device(3).name == "Webcam"
    assert find_device("usb microphone").index == 1  # Equal wins over contained.
    with pytest.raises(KwsError, match=r"More than one.*1 USB Microphone; 2 USB Microphone 2$"):
        find_device("usb")
    with pytest.raises(KwsError, match=r"has this text in its name.*'line'.*3 Webcam"):
        find_device("line")
    with pytest.raises(KwsError, match=r"this number.*0.*1 USB"):
        find_device("0")  # An output.


def test_a_computer_without_inputs_says_so(monkeypatch):
    install(monkeypatch, default=None)
    assert list_devices() == []
    with pytest.raises(KwsError, match="There is no microphone"):
        find_device()


def test_a_missing_package_or_library_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(KwsError, match=r"kws\[listen\]"):
        list_devices()

    class NoPortAudio:
        def find_spec(self, name, path=None, target=None):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(KwsError, match=r"PortAudio library.*apt install libportaudio2"):
        list_devices()


def test_the_level_of_a_full_scale_square_is_zero_and_an_offset_does_not_count():
    square = np.tile(np.array([32767, -32768], np.int16), 100)
    assert level_dbfs(square) == pytest.approx(0, abs=0.01)
    assert level_dbfs(tone(1000, 1, 16000, 32767)) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(tone(1000, 1, 16000, 3276.7) + np.int16(5000)) == pytest.approx(
        -23.01, abs=0.01
    )
    assert level_dbfs(np.full(10, 77, np.int16)) == -math.inf
    assert level_dbfs(np.zeros(0, np.int16)) == -math.inf


def watch(*pieces: np.ndarray) -> list[tuple[float, str]]:
    """(time in s, first word of the message) of everything an `InputWatch` says."""
    watcher, said, heard = InputWatch(), [], 0
    for block in np.array_split(np.concatenate(pieces), sum(map(len, pieces)) // 640):
        heard += len(block)
        message = watcher.feed(block)
        if message:
            said.append((round(heard / 16000, 1), message))
    return said


def noise(seconds: float, amplitude: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.rint(rng.normal(0, amplitude, round(seconds * 16000))).astype(np.int16)


def test_the_watch_is_content_with_speech_and_pauses():
    speech = tone(200, 1, 16000, 3000)
    assert watch(*[noise(3, 8), speech] * 5) == []


def test_the_watch_says_once_that_the_input_is_dead_until_it_lived_again():
    zeros = np.zeros(5 * 16000, np.int16)
    said = watch(noise(1, 300), zeros, noise(1, 300), zeros + np.int16(9))
    assert [time_s for time_s, _ in said] == [3.0, 9.0]
    assert all("digital silence" in message for _, message in said)


def test_the_watch_says_once_that_the_input_is_far_too_quiet():
    # Amplitude 8 of 32768 is -72 dBFS.
    said = watch(noise(20, 8))
    assert [time_s for time_s, _ in said] == [6.0]
    assert "-72 dBFS" in said[0][1]


def test_the_watch_takes_a_quiet_room_for_no_fault_once_a_word_was_heard():
    # A room at -67 dBFS; of each minute five seconds are speech.
    minute = [tone(200, 5, 16000, 3000), noise(55, 14.6)]
    assert watch(*minute * 4) == []
    said = watch(noise(8, 14.6), *minute * 4)
    assert [time_s for time_s, _ in said] == [6.0]


def test_the_watch_does_not_take_a_click_for_a_word():
    click = noise(1, 8)
    click[:100] = 9000
    assert [time_s for time_s, _ in watch(noise(1, 8), click, noise(9, 8))] == [7.0]


def test_the_watch_says_that_the_input_clips_but_forgives_a_click():
    click = noise(3, 300)
    click[16000:16020] = 32767
    assert watch(click) == []
    loud = np.clip(noise(2, 3000).astype(int) * 10, -32768, 32767).astype(np.int16)
    said = watch(noise(1, 300), loud, noise(1, 300))
    assert len(said) == 1
    assert "clipping" in said[0][1]
