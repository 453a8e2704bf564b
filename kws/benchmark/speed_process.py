"""The process that `speed` measures: it loads a model, feeds it audio and prints figures as JSON.

Imports are inside the functions, in the order in which they are to be timed.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from kws.spotter import Spotter

CHUNKS_MS = (20, 100, 1000)


def main() -> None:
    """Measure; arguments: the model, when the process was started, seconds of audio, runs."""
    entered = time.time()
    import os

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])

    path, started, seconds, runs = sys.argv[1:]
    from kws.errors import KwsError
    from kws.spotter import Spotter

    imported = time.time()
    try:
        spotter = Spotter(path)
        ready = time.time()
        answer: dict[str, Any] = {
            "ready_s": ready - float(started),
            "import_s": imported - entered,
            "load_s": ready - imported,
        }
        if float(seconds):
            answer["speed"] = _speed(spotter, path, float(seconds), int(runs))
    except KwsError as error:
        sys.exit(str(error))

    import json

    print(json.dumps(answer))


def _speed(spotter: Spotter, path: str, seconds: float, runs: int) -> dict[str, Any]:
    import numpy as np

    from kws.benchmark.memory import peak_resident_bytes
    from kws.decide import Decider
    from kws.frontend import FrontEnd
    from kws.network import Network
    from kws.runtime import which_runtime

    card = spotter.card
    rate = card.front_end.sample_rate_hz
    # Noise that swells and fades: nothing here depends on what is said. Ten seconds, repeated, so
    # that the audio itself adds little to the memory measured.
    rng = np.random.default_rng(0)
    loudness = np.linspace(-6000, 6000, 10 * rate, dtype=np.float32)
    noise = (loudness * rng.random(10 * rate, np.float32)).astype(np.int16)
    del loudness

    def chunks(size: int) -> Iterator[NDArray[np.int16]]:
        samples = int(seconds * rate)
        for start in range(0, samples, size):
            at = start % len(noise)
            yield noise[at : at + min(size, samples - start)]

    # Processor time, to which other programs on this core add nothing; where its clock is coarse
    # (Windows: 16 ms), wall-clock time.
    exact = time.get_clock_info("process_time").resolution < 1e-4
    clock = time.process_time if exact else time.perf_counter

    def median(work: Any) -> float:
        times = []
        for _ in range(runs):
            before = clock()
            work()
            times.append(clock() - before)
        return float(np.median(times))

    def feed(size: int) -> None:
        spotter.reset()
        for chunk in chunks(size):
            spotter.feed(chunk)

    # Memory before the parts are set up a second time below.
    feed(rate)
    resident = peak_resident_bytes()
    times_real_time = {
        str(ms): seconds / median(lambda size=rate * ms // 1000: feed(size)) for ms in CHUNKS_MS
    }

    front_end = FrontEnd(card.front_end)
    network = Network(path)
    decider = Decider(card.decision, card.labels, card.keywords, card.step_ms)

    def front_end_alone() -> list[Any]:
        front_end.reset()
        return [front_end.feed(chunk) for chunk in chunks(rate)]

    features = np.concatenate(front_end_alone())
    posteriors = network.run(features)
    parts = {
        "front_end_us": median(front_end_alone),
        "network_us": median(lambda: network.run(features)),
        "decision_us": median(lambda: [decider.step(row, 0.0) for row in posteriors]),
    }
    steps = max(1, len(posteriors))
    return {
        "runtime": which_runtime(),
        "resident_bytes": resident,
        "times_real_time": times_real_time,
        "step_ms": card.step_ms,
        **{name: 1e6 * spent / steps for name, spent in parts.items()},
    }
