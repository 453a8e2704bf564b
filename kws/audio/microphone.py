"""Live input: the available microphones, and int16 blocks at 16 kHz from one of them.

`sounddevice` (PortAudio) is imported on first use; it comes with the extra ``listen``. Audio
arrives in PortAudio's own thread and waits in a bounded queue. Lost audio is counted, whether lost
by the device or here, so that gaps are always reported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import queue
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.convert import LiveConverter
from kws.audio.level import level_dbfs
from kws.audio.samples import SAMPLE_RATE_HZ
from kws.errors import KwsError, require

# Tried in this order; hardware without 16 kHz has 48 or 44.1 kHz.
_RATES_HZ = (16000, 48000, 44100, 32000, 96000)
# No callback for this long means that the device is gone: ALSA does not report an unplugged one.
_GONE_AFTER_S = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """One sound input."""

    index: int
    """PortAudio's number, as `open_microphone` takes it."""
    name: str
    """Name given by the system."""
    host_api: str
    """Its sound system, for example ``"ALSA"``."""
    channels: int
    """Largest number of input channels."""
    default_rate_hz: float
    """The rate that the device prefers."""
    is_default: bool
    """Whether it is used if no device is given."""


def list_devices() -> list[Device]:
    """Return all inputs, in PortAudio's order; empty if the computer has none.

    Raises:
        KwsError: sounddevice or the PortAudio library is missing.
    """
    sd = _sounddevice()
    try:
        hosts = [host["name"] for host in sd.query_hostapis()]
        found = list(sd.query_devices())
    except sd.PortAudioError as error:
        raise KwsError(f"The sound system does not respond. Received: {_line(error)}") from error
    default = _default_index(sd)
    return [
        Device(
            index=int(entry.get("index", number)),
            name=str(entry["name"]),
            host_api=hosts[entry["hostapi"]],
            channels=int(entry["max_input_channels"]),
            default_rate_hz=float(entry["default_samplerate"]),
            is_default=int(entry.get("index", number)) == default,
        )
        for number, entry in enumerate(found)
        if entry["max_input_channels"] > 0
    ]


def find_device(wanted: int | str | None = None) -> Device:
    """Return the input with this number, or with this text in its name (in any case).

    An equal name wins over one that only contains the text; `None` is the default input.

    Raises:
        KwsError: no input at all, no match, or more than one.
    """
    devices = list_devices()
    if not devices:
        raise KwsError(
            "There is no microphone. Received: no sound input from the system. Plug one in, or "
            "check that this user may use it (on Linux: the group 'audio')"
        )
    if wanted is None:
        # Without a default input the first one is as good as any.
        return next((device for device in devices if device.is_default), devices[0])
    text = str(wanted).strip()
    names = "; ".join(f"{device.index} {device.name}" for device in devices)
    if text.isdecimal():
        for device in devices:
            if device.index == int(text):
                return device
        raise KwsError(f"No microphone has this number. Received: {text}. There are: {names}")
    matches = [device for device in devices if text.lower() in device.name.lower()]
    equal = [device for device in matches if device.name.lower() == text.lower()]
    chosen = equal if len(equal) == 1 else matches
    if not text or not chosen:
        raise KwsError(
            f"No microphone has this text in its name. Received: {text!r}. There are: {names}"
        )
    if len(chosen) > 1:
        names = "; ".join(f"{device.index} {device.name}" for device in chosen)
        raise KwsError(
            f"More than one microphone matches. Received: {text!r}. Give the number: {names}"
        )
    return chosen[0]


class Microphone:
    """An open input. Iterating yields int16 [n] blocks, 16 kHz mono, until the stream is closed."""

    def __init__(self, device: Device, capture_rate_hz: int, channels: int, blocks: int) -> None:
        self.device = device
        self.capture_rate_hz = capture_rate_hz
        """The device's sample rate; blocks are resampled to 16 kHz."""
        self.channels = channels
        """How many channels are averaged."""
        self._queue: queue.Queue[NDArray[np.int16]] = queue.Queue(blocks)
        self._lock = threading.Lock()
        self._overflows = 0
        self._lost_frames = 0
        self._stopped = threading.Event()
        self._converter = LiveConverter(capture_rate_hz)

    @property
    def overflows(self) -> int:
        """How many times the device has reported lost audio."""
        return self._overflows

    @property
    def lost_s(self) -> float:
        """Seconds of audio dropped here because the reader was too slow."""
        return self._lost_frames / self.capture_rate_hz

    def _callback(self, indata: NDArray[np.int16], frames: int, _time: Any, status: Any) -> None:
        """PortAudio's thread: copy, count, leave."""
        overflow = bool(status) and bool(status.input_overflow)
        with self._lock:
            self._overflows += overflow
        try:
            self._queue.put_nowait(indata.copy())
        except queue.Full:
            with self._lock:
                self._lost_frames += frames

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        waited_s = 0.0
        while True:
            try:
                block = self._queue.get(timeout=0.1)
            except queue.Empty:
                waited_s += 0.1
                if self._stopped.is_set() or waited_s >= _GONE_AFTER_S:
                    raise KwsError(
                        f"The microphone has stopped. Received: no more audio from "
                        f"{self.device.name!r}. Check its plug and run the command again"
                    ) from None
                continue
            waited_s = 0.0
            mono = self._converter.feed(block)
            if len(mono):
                yield mono


@contextlib.contextmanager
def open_microphone(
    device: int | str | None = None, *, block_ms: int = 40, buffer_s: float = 5.0
) -> Iterator[Microphone]:
    """Open an input for the length of a ``with`` block.

    Args:
        device: as for `find_device`.
        block_ms: length of a block; shorter reacts sooner and costs more calls.
        buffer_s: how much audio may wait before new audio is dropped (and counted).

    Raises:
        KwsError: no such device, none of the usual rates works, another program uses it, or it is
            unplugged while it is being read.

    Example::

        with open_microphone("usb") as microphone:
            for block in microphone:
                print(level_dbfs(block))
    """
    chosen = find_device(device)
    sd = _sounddevice()
    rate_hz, channels = _pick_settings(sd, chosen)
    blocks = max(2, round(buffer_s * 1000 / block_ms))
    microphone = Microphone(chosen, rate_hz, channels, blocks)
    try:
        stream = sd.InputStream(
            device=chosen.index,
            samplerate=rate_hz,
            channels=channels,
            dtype="int16",
            blocksize=rate_hz * block_ms // 1000,
            # A deep buffer survives a busy computer, and keyword spotting can wait a little.
            latency="high",
            callback=microphone._callback,
            finished_callback=microphone._stopped.set,
        )
    except sd.PortAudioError as error:
        raise _cannot_open(chosen, error) from error
    try:
        try:
            stream.start()
        except sd.PortAudioError as error:
            raise _cannot_open(chosen, error) from error
        yield microphone
    finally:
        # An unplugged device may fail to close; nothing is left to save.
        with contextlib.suppress(sd.PortAudioError):
            stream.close()


def _cannot_open(device: Device, error: Exception) -> KwsError:
    return KwsError(
        f"The microphone {device.name!r} cannot be opened. Received: {_line(error)}. Close other "
        f"programs that use it, or choose another (kws listen --list-devices)"
    )


def _pick_settings(sd: ModuleType, device: Device) -> tuple[int, int]:
    """Return the first rate and number of channels that the device really supports."""
    rates = dict.fromkeys([*_RATES_HZ, round(device.default_rate_hz)])
    reason = ""
    for rate_hz in rates:
        # Mono first; some hardware has only stereo. Not all channels of an array are needed.
        for channels in dict.fromkeys((1, min(2, device.channels), device.channels)):
            try:
                sd.check_input_settings(
                    device=device.index, channels=channels, dtype="int16", samplerate=rate_hz
                )
            except (sd.PortAudioError, ValueError) as error:
                reason = _line(error)
            else:
                return rate_hz, channels
    raise _cannot_open(device, KwsError(f"none of {list(rates)} Hz works: {reason}"))


def _sounddevice() -> ModuleType:
    try:
        return require("sounddevice", extra="listen")
    except OSError as error:
        # The wheel contains PortAudio for Windows and macOS, but not for Linux.
        hint = (
            "On Debian, Ubuntu and Raspberry Pi OS: sudo apt install libportaudio2"
            if sys.platform.startswith("linux")
            else "Install it again with: pip install --force-reinstall sounddevice"
        )
        raise KwsError(f"The PortAudio library is missing. Received: {error}. {hint}") from error


def _default_index(sd: ModuleType) -> int | None:
    try:
        entry = sd.query_devices(kind="input")
    except (sd.PortAudioError, ValueError):
        return None
    return int(entry["index"]) if "index" in entry else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


class InputWatch:
    """Detects an input in which no keyword can be recognised: dead, far too quiet, or clipping.

    Each fault is reported once, and again only after the input has been good in between; a quiet
    input only until something has been heard well, because a quiet room is no fault.
    """

    DEAD_S = 2.0
    """Digital silence for this long is a fault; a live microphone always has some noise."""
    QUIET_S = 6.0
    """Time within which something must reach `QUIET_DBFS`."""
    QUIET_DBFS = -60.0
    """Speech at arm's length is at about -40 to -20 dBFS, a quiet room at -70 to -55."""
    HEARD_S = 0.3
    """Total time at `QUIET_DBFS` or more after which the level is good: a word, not a click."""
    CLIP_SAMPLES = 32
    """This many samples at full scale within a second are a fault; a single loud click is not."""

    def __init__(self, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self._rate_hz = sample_rate_hz
        self._dead = 0
        self._quiet = 0
        self._heard = 0
        self._clipped = 0.0
        self._loudest = -math.inf
        self._said: set[str] = set()

    def feed(self, block: NDArray[np.int16]) -> str | None:
        """Take the next block, int16 [n]; return the line to print now, or `None`."""
        level = level_dbfs(block)
        n = len(block)
        self._dead = self._dead + n if level == -math.inf else 0
        if level >= self.QUIET_DBFS:
            self._quiet, self._loudest = 0, -math.inf
            self._heard += n
        else:
            self._quiet += n
            self._loudest = max(self._loudest, level)
        full = int(np.count_nonzero((block >= 32766) | (block <= -32767)))
        # A leaky count with a time constant of one second.
        self._clipped = self._clipped * math.exp(-n / self._rate_hz) + full

        if self._dead == 0:
            self._said.discard("dead")
        if self._clipped < 1:
            self._said.discard("clipped")
        if self._dead >= self.DEAD_S * self._rate_hz:
            return self._once(
                "dead",
                "the microphone delivers digital silence: it is muted, or this program has no "
                "permission (check the mute key and the system's privacy settings)",
            )
        heard = self._heard >= self.HEARD_S * self._rate_hz
        if not heard and self._quiet >= self.QUIET_S * self._rate_hz and self._loudest > -math.inf:
            return self._once(
                "quiet",
                f"very quiet input, at most {self._loudest:.0f} dBFS in the last "
                f"{self._quiet / self._rate_hz:.0f} s: if you were speaking, turn up the input "
                f"level or choose another device (--list-devices)",
            )
        if self._clipped >= self.CLIP_SAMPLES:
            return self._once(
                "clipped", "the input is clipping: turn down the input level or move away"
            )
        return None

    def _once(self, fault: str, message: str) -> str | None:
        if fault in self._said:
            return None
        self._said.add(fault)
        return message
