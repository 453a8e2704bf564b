"""Compare what to do with the LSTM's state on endless audio; run by hand.

    python tests/measure_state.py MODEL day1.wav day2.wav

Each recording has a label file of the same name (.tsv). The state is carried on for ever (as the
runner does), reset every few seconds, reset in pauses, or not used: then a window of a second is
run from zero for each step, or, at the cost of carrying the state, every 21st.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio.files import read_audio
from kws.data.label_file import read_truth
from kws.frontend import features_of
from kws.network import Network
from kws.recordings.curve import trace_curves
from kws.recordings.posteriors import RecordingPosteriors
from kws.recordings.replay import Replay
from kws.recordings.truth import own_words
from kws.spotter import TAIL_SAMPLES

RATES = (10.0, 5.0, 2.0, 1.0)
PAUSE_S = 0.3
PAUSE_DBFS = -55.0

Posteriors = NDArray[np.float32]


def run_from(network: Network, prepared: NDArray[np.generic], starts: list[int]) -> Posteriors:
    """Run all steps, with a state of zero before each of `starts` [steps, labels]."""
    card = network.card
    width, stride = card.receptive_field_frames, card.stride_frames
    steps, zero = card.n_steps(len(prepared)), set(starts)
    rows = []
    for step in range(steps):
        if step in zero:
            network.reset()
        rows.append(network.invoke(prepared[step * stride : step * stride + width])[0])
    return np.stack(rows)


def run_windows(network: Network, prepared: NDArray[np.generic], every: int) -> Posteriors:
    """Run a window of a clip's length from zero at every n-th step; hold the answer until then."""
    card = network.card
    width, stride = card.receptive_field_frames, card.stride_frames
    length = card.n_steps(card.clip_frames)
    rows: list[NDArray[np.float32]] = []
    for step in range(card.n_steps(len(prepared))):
        if rows and step % every:
            rows.append(rows[-1])
            continue
        network.reset()
        for k in range(max(0, step - length + 1), step + 1):
            answer = network.invoke(prepared[k * stride : k * stride + width])[0]
        rows.append(answer)
    return np.stack(rows)


def pauses(network: Network, pcm: NDArray[np.int16]) -> list[int]:
    """Return the first step of each pause."""
    card = network.card
    hop = card.stride_frames * card.front_end.hop_length
    steps = card.n_steps(card.front_end.n_frames(len(pcm)))
    power = (pcm[: len(pcm) // hop * hop].astype(np.float64) ** 2).reshape(-1, hop).mean(axis=1)
    n = round(PAUSE_S * card.front_end.sample_rate_hz / hop)
    mean = np.convolve(power, np.ones(n) / n)[: len(power)]
    quiet = 10 * np.log10(np.maximum(mean, 1e-9) / 32768**2) < PAUSE_DBFS
    return [0, *(i for i in range(1, min(steps, len(quiet))) if quiet[i] and not quiet[i - 1])]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("recordings", nargs="+", type=Path)
    given = parser.parse_args()
    network = Network(given.model)
    card = network.card
    window = card.n_steps(card.clip_frames)

    def every(seconds: float) -> Callable[[NDArray[np.int16], NDArray[np.generic]], Posteriors]:
        apart = round(1000 * seconds / card.step_ms)
        return lambda _, x: run_from(network, x, [*range(0, card.n_steps(len(x)), apart)])

    ways: dict[str, Callable[[NDArray[np.int16], NDArray[np.generic]], Posteriors]] = {
        "carried on": lambda _, x: run_from(network, x, [0]),
        "reset every 10 s": every(10),
        "reset every 4 s": every(4),
        "reset every 2 s": every(2),
        "reset in pauses": lambda pcm, x: run_from(network, x, pauses(network, pcm)),
        f"a window for each step, {window} times the work": lambda _, x: run_windows(network, x, 1),
        f"a window every {window} steps, equal work": lambda _, x: run_windows(network, x, window),
    }
    print(f"misses in % at {' / '.join(f'{rate:g}' for rate in RATES)} false accepts per hour")
    for name, posteriors in ways.items():
        pairs = []
        for path in given.recordings:
            pcm = np.append(read_audio(path), np.zeros(TAIL_SAMPLES, np.int16))
            found = posteriors(pcm, network.prepare(features_of(pcm, card.front_end)))
            recording = RecordingPosteriors(
                audio=str(path), seconds=(len(pcm) - TAIL_SAMPLES) / 16000, posteriors=found
            )
            (words,), _ = own_words(card, [read_truth(path.with_suffix(".tsv"))])
            pairs.append((Replay(card, recording), words))
        curve = trace_curves(pairs, card.decision.thresholds)["all"]
        points = [curve.best(rate) for rate in RATES]
        misses = [f"{100 * (p.false_reject_rate or 0):.1f}" if p else "–" for p in points]
        print(f"{name}: {' / '.join(misses)}", flush=True)


if __name__ == "__main__":
    main()
