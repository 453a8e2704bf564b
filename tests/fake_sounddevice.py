"""A stand-in for the `sounddevice` module: devices and audio of the test's choice, in a thread.

It keeps to what the real one does where the code under test can notice: `query_devices` gives
dictionaries with those keys, unsupported settings raise `PortAudioError`, the callback runs in
another thread with an array that is reused afterwards, flags and a finished callback.
"""

from __future__ import annotations

import _thread
import sys
import threading
import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@dataclass(kw_only=True)
class FakeInput:
    """One device and what it will deliver."""

    name: str
    audio: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    """int16 [n] or [n, channels] at the rate that is opened."""
    rates: tuple[int, ...] = (16000,)
    channels: tuple[int, ...] = (1, 2)
    """Numbers of channels that can be opened."""
    speed: float = 40.0
    """Times real time."""
    overflow_blocks: tuple[int, ...] = ()
    """Blocks whose callback has the overflow flag."""
    end: str = "silence"
    """After the audio: "silence" (noise-free zeros forever), "unplugged" (no more callbacks),
    "aborted" (the finished callback), "ctrl-c" (as if the user pressed it, then silence)."""
    busy: bool = False
    """`start` fails."""


class PortAudioError(Exception):
    pass


class Flags:
    def __init__(self, input_overflow: bool) -> None:
        self.input_overflow = input_overflow

    def __bool__(self) -> bool:
        return self.input_overflow


def install(
    monkeypatch: pytest.MonkeyPatch, *devices: FakeInput, default: int | None = 1
) -> ModuleType:
    """Put the fake in place of `sounddevice`. Number 0 is an output; the inputs follow from 1."""
    module: Any = ModuleType("sounddevice")
    entries = [_entry(0, "Speakers", 0, 48000.0)] + [
        _entry(number, device.name, max(device.channels), float(device.rates[0]))
        for number, device in enumerate(devices, start=1)
    ]

    def query_devices(device: int | None = None, kind: str | None = None) -> Any:
        if kind == "input":
            if default is None or default >= len(entries):
                raise PortAudioError("Error querying device -1")
            return entries[default]
        return entries if device is None else entries[device]

    def check_input_settings(*, device: int, channels: int, dtype: str, samplerate: int) -> None:
        chosen = devices[device - 1]
        if channels not in chosen.channels:
            raise PortAudioError("Invalid number of channels [PaErrorCode -9998]")
        if samplerate not in chosen.rates:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    class InputStream:
        def __init__(
            self,
            *,
            device: int,
            samplerate: int,
            channels: int,
            dtype: str,
            blocksize: int,
            latency: str,
            callback: Any,
            finished_callback: Any,
        ) -> None:
            check_input_settings(
                device=device, channels=channels, dtype=dtype, samplerate=samplerate
            )
            self._input, self._rate, self._channels = devices[device - 1], samplerate, channels
            self._blocksize, self._callback, self._finished = blocksize, callback, finished_callback
            self._closing = threading.Event()
            self._thread = threading.Thread(target=self._run, daemon=True)
            module.opened.append(self)

        def start(self) -> None:
            if self._input.busy:
                raise PortAudioError("Device unavailable [PaErrorCode -9985]")
            self._thread.start()

        def close(self) -> None:
            self._closing.set()
            if self._thread.ident:
                self._thread.join()
            self.closed = True

        def _run(self) -> None:
            audio = self._input.audio
            audio = audio.reshape(len(audio), -1)
            if audio.shape[1] == 1:
                audio = np.repeat(audio, self._channels, axis=1)
            buffer = np.zeros((self._blocksize, self._channels), np.int16)
            block = 0
            pressed = False
            while not self._closing.is_set():
                part = audio[block * self._blocksize : (block + 1) * self._blocksize]
                if not len(part) and self._input.end == "unplugged":
                    return
                if not len(part) and self._input.end == "aborted":
                    self._finished()
                    return
                if self._input.end == "ctrl-c" and not len(part) and not pressed:
                    # Once what is queued has been heard, on a busy machine as well.
                    self._closing.wait(0.5)
                    _thread.interrupt_main()
                    pressed = True
                buffer[:] = 0
                buffer[: len(part)] = part
                flags = Flags(block in self._input.overflow_blocks)
                self._callback(buffer, self._blocksize, None, flags)
                block += 1
                if self._input.speed:
                    time.sleep(self._blocksize / self._rate / self._input.speed)

    module.PortAudioError = PortAudioError
    module.query_hostapis = lambda: ({"name": "ALSA"},)
    module.query_devices = query_devices
    module.check_input_settings = check_input_settings
    module.InputStream = InputStream
    module.opened = []
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def _entry(index: int, name: str, channels: int, rate: float) -> dict[str, Any]:
    return {
        "name": name,
        "index": index,
        "hostapi": 0,
        "max_input_channels": channels if index else 0,
        "max_output_channels": 0 if index else 2,
        "default_samplerate": rate,
    }
