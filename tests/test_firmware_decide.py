"""Decisions in C against `kws.decide.Decider`, on adversarial streams of posteriors."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from firmware_export.c_source import macros
from firmware_export.decision import decision, decision_arrays
from firmware_export.names import RUNTIME
from kws.decide import Decider, DecisionConfig
from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.model_file import ModelCard

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
LABELS = ("_silence_", "yes", "_unknown_", "no", "go")
Found = list[tuple[int, str, int]]
InC = tuple[ModelCard, Callable[..., Found]]
"""A card, and what its compiled decisions find in posteriors int8 [steps, labels]."""

# Limits: windows and refractory times of one step and of many; thresholds that posteriors of n/256
# meet exactly, just miss and never reach; no release, and release at the threshold.
CONFIGS = {
    "as shipped": DecisionConfig(thresholds={"go": 0.8, "yes": 0.7, "no": 0.75}, smoothing_ms=400),
    "no smoothing, no rest": DecisionConfig(
        thresholds={"go": 0.5, "yes": 0.5, "no": 0.5}, smoothing_ms=0, refractory_ms=0
    ),
    "thresholds on the grid": DecisionConfig(
        thresholds={"go": 3 / 256, "yes": 1.5 / 256, "no": 255 / 256},
        smoothing_ms=80,
        refractory_ms=40,
        release=1.0,
    ),
    "never released": DecisionConfig(
        thresholds={"go": 0.1, "yes": 1.0, "no": 1e-9}, smoothing_ms=120, release=0.0
    ),
    "longest": DecisionConfig(
        thresholds={"go": 0.3, "yes": 0.3, "no": 0.3}, smoothing_ms=60_000, refractory_ms=100
    ),
}


def card(config: DecisionConfig, keywords: Sequence[str] = ("go", "yes", "no")) -> ModelCard:
    """A card whose keywords are in another order than its labels."""
    front_end = FrontEndConfig()
    return ModelCard(
        name="test",
        license="CC0-1.0",
        labels=LABELS,
        keywords=tuple(keywords),
        head="softmax",
        form="stream",
        receptive_field_frames=9,
        stride_frames=2,
        clip_frames=49,
        front_end=front_end,
        feature_mean=(0.0,) * front_end.n_mfcc,
        feature_std=(1.0,) * front_end.n_mfcc,
        decision=config,
    )


@pytest.fixture(scope="module", params=list(CONFIGS))
def decider_in_c(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> InC:
    """A card and what its decisions, compiled, find in posteriors int8 [steps, labels]."""
    model = card(CONFIGS[request.param])
    folder = tmp_path_factory.mktemp("decide")
    decided = decision(model)
    sizes = {
        "KWS_N_LABELS": len(LABELS),
        "KWS_N_KEYWORDS": len(decided.labels),
        "KWS_WINDOW_STEPS": decided.window_steps,
        "KWS_REFRACTORY_STEPS": decided.refractory_steps,
        "KWS_RELEASE_Q15": round(32768 * model.decision.release),
    }
    (folder / "kws_model.h").write_text(
        "#ifndef KWS_MODEL_H\n#define KWS_MODEL_H\n#include <stdint.h>\n"
        f"{macros(sizes, {})}\n"
        "extern const uint16_t kws_keyword_label[KWS_N_KEYWORDS];\n"
        "extern const uint32_t kws_fire_from[KWS_N_KEYWORDS];\n"
        "extern const uint32_t kws_release_below[KWS_N_KEYWORDS];\n#endif\n"
    )
    (folder / "limits.c").write_text(f'#include "kws_model.h"\n{decision_arrays(decided)}\n')
    for name in ("kws_decide.c", "kws_decide.h"):
        shutil.copy(RUNTIME / name, folder)
    (folder / "size.c").write_text(
        '#include "kws_decide.h"\nint state_bytes(void);\n'
        "int state_bytes(void)\n{\n    return (int)sizeof(kws_decide_state);\n}\n"
    )
    command = ["gcc", *STRICT, "-O2", "-shared", "-fPIC", "-o", "decide.so"]
    subprocess.run([*command, "kws_decide.c", "limits.c", "size.c"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "decide.so"))
    state = ctypes.create_string_buffer(library.state_bytes())

    def found(
        posteriors: NDArray[np.int8], thresholds_q15: Mapping[str, int] | None = None
    ) -> Found:
        score = ctypes.c_uint16()
        events = []
        library.kws_decide_init(state)
        for word, threshold in (thresholds_q15 or {}).items():
            assert library.kws_decide_set_threshold(state, LABELS.index(word), threshold) == 0
        library.kws_decide_reset(state)  # must keep the thresholds
        for step, row in enumerate(posteriors):
            label = library.kws_decide_step(state, row.tobytes(), ctypes.byref(score))
            if label >= 0:
                events.append((step, LABELS[label], score.value))
        return events

    return model, found


def expected(model: ModelCard, posteriors: NDArray[np.int8]) -> Found:
    """What the runner decides: step, keyword and the score's floor in Q15."""
    decider = Decider(model.decision, model.labels, model.keywords, model.step_ms)
    events = []
    for step, row in enumerate(posteriors):
        event = decider.step((row + 128.0) / 256, time_s=step)
        if event:
            # The score is a whole number of 1/256 over the window, so this is exact.
            sum_q8 = round(event.score * decider.limits.window_steps * 256)
            events.append((step, event.keyword, sum_q8 * 128 // decider.limits.window_steps))
    return events


# A stretch of steps in which a label is at some level: words, silence, and everything between.
STRETCH = st.tuples(
    st.integers(1, 40), st.integers(0, 4), st.sampled_from([-128, -127, -126, -125, 0, 100, 127])
)


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(st.lists(STRETCH, max_size=12), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 3, 255]))
def test_c_decides_as_the_runner_does(
    decider_in_c: InC,
    stretches: list[tuple[int, int, int]],
    seed: int,
    noise: int,
) -> None:
    model, found = decider_in_c
    rng = np.random.default_rng(seed)
    rows = [np.zeros((0, len(LABELS)), np.int8)]
    for steps, label, level in stretches:
        block = np.full((steps, len(LABELS)), -128)
        block[:, label] = level
        block += rng.integers(-noise, noise + 1, block.shape)
        rows.append(block.clip(-128, 127).astype(np.int8))
    posteriors = np.concatenate(rows)
    assert found(posteriors) == expected(model, posteriors)


@needs_compiler
def test_every_configuration_that_can_fire_does(
    decider_in_c: InC,
) -> None:
    model, found = decider_in_c
    steps = 2 * decision(model).window_steps + 50
    for column, word in ((1, "yes"), (3, "no"), (4, "go")):
        posteriors = np.full((steps, len(LABELS)), -128, np.int8)
        posteriors[:, column] = 127
        assert found(posteriors) == expected(model, posteriors)
        # 255/256 is the most a posterior can be.
        assert bool(found(posteriors)) == (model.decision.thresholds[word] <= 255 / 256)


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(
    st.lists(STRETCH, max_size=12),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 32768), min_size=3, max_size=3),
)
def test_thresholds_set_on_the_device_decide_as_the_runner_does_with_them(
    decider_in_c: InC, stretches: list[tuple[int, int, int]], seed: int, limits: list[int]
) -> None:
    model, found = decider_in_c
    rng = np.random.default_rng(seed)
    rows = [rng.integers(-128, -126, (5, len(LABELS)))]
    for steps, label, level in stretches:
        block = rng.integers(-128, -60, (steps, len(LABELS)))
        block[:, label] = level
        rows.append(block)
    posteriors = np.concatenate(rows).astype(np.int8)
    chosen = dict(zip(model.keywords, limits, strict=True))
    given_ = {word: limit / 32768 for word, limit in chosen.items()}
    # The share at which a keyword is released is rounded to Q15 in C.
    release = round(32768 * model.decision.release) / 32768
    config = replace(model.decision, thresholds=given_, release=release)
    want = expected(replace(model, decision=config), posteriors)
    assert found(posteriors, chosen) == want


@needs_compiler
def test_a_threshold_of_one_switches_a_keyword_off(decider_in_c: InC) -> None:
    model, found = decider_in_c
    posteriors = np.full((decision(model).window_steps + 50, len(LABELS)), 127, np.int8)
    assert found(posteriors, dict.fromkeys(model.keywords, 1))
    assert not found(posteriors, dict.fromkeys(model.keywords, 32768))


@needs_compiler
def test_of_equal_keywords_the_first_label_fires(
    decider_in_c: InC,
) -> None:
    model, found = decider_in_c
    posteriors = np.full((decision(model).window_steps + 20, len(LABELS)), 127, np.int8)
    assert found(posteriors)[0] == expected(model, posteriors)[0]


def test_a_model_without_keywords_is_refused() -> None:
    with pytest.raises(KwsError, match="has no keywords"):
        decision(card(DecisionConfig(thresholds={}), keywords=()))
