"""The model card in the .tflite: read, written, refused; and the FlatBuffer code underneath."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.model_file import (
    ModelCard,
    load_model,
    pretrained_models,
    read_card,
    read_metadata,
    resolve_model,
    write_card,
    write_metadata,
)

CARD = tiny_model.card(form="stream")


@pytest.fixture(scope="module")
def model() -> bytes:
    return tiny_model.tiny_tflite(form="stream", int8=True)


def litert_outputs(content: bytes) -> np.ndarray:
    """What LiteRT's own interpreter makes of the same random steps."""
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    steps = np.random.default_rng(0).integers(-128, 128, (20, *inputs["shape"])).astype(np.int8)
    result = []
    for step in steps:
        interpreter.set_tensor(inputs["index"], step)
        interpreter.invoke()
        result.append(interpreter.get_tensor(outputs["index"]))
    return np.array(result)


def tflm_outputs(content: bytes) -> np.ndarray:
    """What TFLM's interpreter makes of the same random steps."""
    runtime = pytest.importorskip("tflite_micro").runtime
    interpreter = runtime.Interpreter.from_bytes(content)
    shape = interpreter.get_input_details(0)["shape"]
    steps = np.random.default_rng(0).integers(-128, 128, (20, *shape)).astype(np.int8)
    result = []
    for step in steps:
        interpreter.set_input(step, 0)
        interpreter.invoke()
        result.append(interpreter.get_output(0).copy())
    return np.array(result)


def schema_metadata(content: bytes) -> dict[str, bytes]:
    """All metadata as the code that FlatBuffers' compiler made of TFLite's schema reads it."""
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    root = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    return {m.name.decode(): bytes(root.buffers[m.buffer].data) for m in root.metadata}


@given(payload=st.binary(max_size=3000), name=st.text(min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_what_was_written_is_read_back(model: bytes, payload: bytes, name: str) -> None:
    assert read_metadata(write_metadata(model, name, payload), name) == payload


def test_the_converters_own_metadata_can_be_read(model: bytes) -> None:
    assert (
        read_metadata(model, "min_runtime_version") == schema_metadata(model)["min_runtime_version"]
    )
    assert read_metadata(model, "kws") is None


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 3001])
def test_the_generated_schema_code_sees_all_old_entries_and_the_new_one(
    model: bytes, length: int
) -> None:
    payload = bytes(range(256)) * 12
    written = write_metadata(model, "kws", payload[:length])
    assert schema_metadata(written) == schema_metadata(model) | {"kws": payload[:length]}


def test_everything_but_the_metadata_is_unchanged_for_the_schema_code(model: bytes) -> None:
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    def parts(content: bytes) -> dict[str, object]:
        def plain(x: object) -> object:
            if hasattr(x, "__dict__"):
                return {k: plain(v) for k, v in vars(x).items()}
            return [plain(v) for v in x] if isinstance(x, (list, np.ndarray)) else x

        root = plain(schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0)))
        assert isinstance(root, dict)
        del root["metadata"]
        return root

    before, after = parts(model), parts(write_metadata(model, "kws", b"{}"))
    assert after["buffers"].pop()["data"] == list(b"{}")  # type: ignore[attr-defined]
    assert after == before


def test_weights_stay_aligned_to_16_bytes(model: bytes) -> None:
    written = write_metadata(model, "kws", b"x" * 101)
    assert (len(written) - len(model)) % 16 == 0
    assert written.endswith(model)
    # The payload is a buffer like the weights and aligned like them.
    assert written.index(b"x" * 101) % 16 == 0


def test_litert_gives_the_same_outputs_with_the_card(model: bytes) -> None:
    outputs = litert_outputs(write_card(model, CARD))
    assert outputs.std() > 10
    np.testing.assert_array_equal(outputs, litert_outputs(model))


@pytest.mark.parametrize("name", ["a", "ab", "abc", "abcd", "abcde"])
def test_litert_verifies_the_file_whatever_the_length_of_the_name(model: bytes, name: str) -> None:
    # LiteRT runs FlatBuffers' verifier: bounds, alignment, the zero byte at the end of a string.
    written = write_metadata(write_metadata(model, name, b"\xff" * 7), name + "z", b"\xff" * 9)
    np.testing.assert_array_equal(litert_outputs(written), litert_outputs(model))


def test_tflm_gives_the_same_outputs_with_the_card(model: bytes) -> None:
    np.testing.assert_array_equal(tflm_outputs(write_card(model, CARD)), tflm_outputs(model))


def test_writing_again_replaces_and_does_not_grow_the_file(model: bytes) -> None:
    once = write_metadata(model, "kws", b"a" * 500)
    again = once
    for _ in range(5):
        again = write_metadata(again, "kws", b"b" * 500)
    assert len(again) == len(once)
    assert read_metadata(again, "kws") == b"b" * 500
    assert schema_metadata(again) == schema_metadata(model) | {"kws": b"b" * 500}


def test_entries_under_other_names_survive(model: bytes) -> None:
    both = write_metadata(write_metadata(model, "one", b"1"), "two", b"2")
    assert (read_metadata(both, "one"), read_metadata(both, "two")) == (b"1", b"2")
    changed = write_metadata(both, "one", b"uno")
    assert schema_metadata(changed) == schema_metadata(model) | {"one": b"uno", "two": b"2"}


@pytest.fixture(scope="module")
def foreign(model: bytes) -> bytes:
    """A file with a card, written anew by FlatBuffers' own code."""
    import flatbuffers

    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    root = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(write_card(model, CARD), 0))
    builder = flatbuffers.Builder()
    builder.Finish(root.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_file_rewritten_by_another_tool_keeps_its_card_and_can_be_updated(
    foreign: bytes,
) -> None:
    assert read_card(foreign) == CARD
    updated = write_card(foreign, replace(CARD, name="second"))
    assert read_card(updated).name == "second"
    assert json.loads(schema_metadata(updated)["kws"])["name"] == "second"


def read_or_refuse(content: bytes) -> None:
    """Anything but an answer or one line of KwsError fails the test."""
    for use in (
        lambda: read_metadata(content, "kws"),
        lambda: write_metadata(content, "kws", b"new"),
        lambda: read_card(content),
    ):
        try:
            use()
        except KwsError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 1000


@given(data=st.data())
@settings(max_examples=400, deadline=2000)
def test_damaged_files_end_in_one_line(model: bytes, foreign: bytes, data: st.DataObject) -> None:
    # Files without our checksum, so that damage reaches the tables.
    content = bytearray(data.draw(st.sampled_from([model, foreign])))
    root = struct.unpack_from("<I", content)[0]
    for _ in range(data.draw(st.integers(1, 4))):
        # Mostly near the root and the beginning, where the positions are.
        start = data.draw(st.sampled_from([0, max(0, root - 40)]))
        at = start + data.draw(st.integers(0, 200) | st.integers(0, len(content) - start - 5))
        word = data.draw(st.integers(0, 2**32 - 1) | st.integers(0, 400))
        if at + 4 <= len(content):
            struct.pack_into("<I", content, at, word)
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    read_or_refuse(bytes(content[:end]))


def test_content_that_ends_behind_the_file_is_refused(foreign: bytes) -> None:
    payload = read_metadata(foreign, "kws")
    assert payload is not None
    damaged = bytearray(foreign)
    at = foreign.index(payload) - 4
    assert struct.unpack_from("<I", damaged, at) == (len(payload),)
    struct.pack_into("<I", damaged, at, len(foreign) - at - 3)
    with pytest.raises(KwsError, match="cut off or damaged"):
        read_metadata(bytes(damaged), "kws")


def test_root_references_that_lead_out_of_the_file_end_in_one_line(model: bytes) -> None:
    root = struct.unpack_from("<I", model)[0]
    for at in range(root + 4, root + 40, 4):
        damaged = bytearray(model)
        struct.pack_into("<I", damaged, at, 2**32 - 1)
        read_or_refuse(bytes(damaged))


def test_a_single_flipped_bit_anywhere_is_noticed(model: bytes) -> None:
    content = write_card(model, CARD)
    for at in range(0, len(content), 37):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        if damaged[8:16] != content[8:16]:
            continue  # the mark itself, without which the file counts as another tool's
        with pytest.raises(KwsError):
            read_card(bytes(damaged))


def test_every_truncation_ends_in_one_line(model: bytes) -> None:
    content = write_card(model, CARD)
    for end in range(3000):
        read_or_refuse(content[:end])
        read_or_refuse(model[:end])


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_foreign_bytes_end_in_one_line(content: bytes) -> None:
    read_or_refuse(content)
    read_or_refuse(content[:4] + b"TFL3" + content[4:])


# The card


def test_a_card_survives_the_way_through_json() -> None:
    assert ModelCard.from_json(CARD.to_json()) == CARD


def test_a_card_survives_the_way_through_a_model_file(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(write_card(model, CARD))
    assert load_model(path) == CARD


def test_step_times_are_the_end_of_the_last_sample() -> None:
    # R = 5 frames of 512 samples every 320: (4 * 320 + 512) / 16000; a step is 2 frames on.
    assert CARD.step_time_s(0) == pytest.approx(0.112)
    assert CARD.step_time_s(3) == pytest.approx(0.112 + 3 * 0.040)
    assert CARD.step_times_s(4).tolist() == [CARD.step_time_s(k) for k in range(4)]
    assert CARD.step_times_s(0).shape == (0,)
    assert CARD.step_ms == 40.0
    assert [CARD.n_steps(n) for n in (0, 4, 5, 6, 7, 49)] == [0, 0, 1, 1, 2, 23]


def test_a_newer_card_is_refused_with_the_advice_to_upgrade() -> None:
    raw = json.loads(CARD.to_json()) | {"schema_version": 2, "surprise": 1}
    with pytest.raises(KwsError, match=r"newer kws.*version 2.*pip install --upgrade kws"):
        ModelCard.from_json(json.dumps(raw))


def edit(**changes: object) -> str:
    raw = json.loads(CARD.to_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = raw
        for parent in parents:
            place = place[parent]
        place[last] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not readable JSON"),
        ("[]", "the card must be of type dict"),
        ("[" * 100_000, "not readable JSON"),
        (edit(labels="yes"), "labels must be of type list"),
        (edit(labels=["a", "a", "yes", "no"]), "labels of a model card must be distinct"),
        (edit(labels=["_silence_", "_unknown_", "yes", "n\no"]), "printable characters"),
        (edit(labels=["_silence_", "_unknown_", "yes", "\ud800"]), "printable characters"),
        (edit(keywords=["maybe"]), "keyword must be one of the labels"),
        (edit(keywords=["_silence_"]), "keyword must be one of the labels"),
        (edit(head="relu"), "head must be one of softmax, sigmoid"),
        (edit(head="sigmoid"), "sigmoid head has one label"),
        (edit(form="pond"), "form must be one of stream, clip"),
        (edit(stride_frames=0), "1 <= stride_frames"),
        (edit(stride_frames=True), "stride_frames must be of type int"),
        (edit(receptive_field_frames=50), "receptive_field_frames <= clip_frames"),
        (edit(feature_mean=[0.0] * 12), "feature_mean must be 13 finite numbers"),
        (edit(feature_std=[0.0] * 13), "feature_std must be above 0"),
        (edit(feature_std=[float("nan")] * 13), "must be a finite number"),
        (edit(decision__thresholds={"yes": 0.5}), "one threshold for each keyword"),
        (edit(decision__thresholds={"yes": 1.5, "no": 0.5}), "above 0 and at most 1"),
        (edit(decision__after_wake={"yes": 0.0}), "above 0 and at most 1"),
        (edit(decision__after_wake={"maybe": 0.5}), "'maybe', which is not a keyword"),
        (edit(decision__after_wake=0.5), "decision.after_wake must be of type dict"),
        (edit(decision__mood="good"), "unknown field 'decision.mood'"),
        (edit(front_end__hop_length="x"), "hop_length must be a finite number"),
        (edit(front_end__features="cepstrum"), "one of mfcc, log_mel, samples"),
        (edit(front_end__features=3), "features must be of type str"),
        (edit(provenance=None), "provenance must be of type dict"),
        (CARD.to_json().replace('"license"', '"licence"'), "unknown field 'licence'"),
    ],
)
def test_a_bad_card_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(KwsError, match=complaint) as caught:
        ModelCard.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_card_from_before_there_was_a_choice_of_features_is_about_mfcc() -> None:
    old = json.loads(CARD.to_json())
    assert old["front_end"].pop("features") == "mfcc"
    assert ModelCard.from_json(json.dumps(old)) == CARD


@pytest.mark.parametrize("key", sorted(set(json.loads(CARD.to_json())) - {"provenance"}))
def test_a_card_that_lacks_a_field_is_refused_by_the_fields_name(key: str) -> None:
    raw = json.loads(CARD.to_json())
    del raw[key]
    with pytest.raises(KwsError, match=key):
        ModelCard.from_json(json.dumps(raw))


def test_nan_in_the_provenance_is_refused_when_writing() -> None:
    with pytest.raises(KwsError, match="cannot be written as JSON"):
        replace(CARD, provenance={"loss": float("nan")}).to_json()


def test_a_tflite_without_a_card_is_refused_by_name_with_what_to_do(
    model: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "bare.tflite"
    path.write_bytes(model)
    with pytest.raises(KwsError, match=r"bare\.tflite.*no kws model card.*kws export"):
        load_model(path)


def test_a_file_that_is_no_tflite_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "page.tflite"
    path.write_text("<!DOCTYPE html>")
    with pytest.raises(KwsError, match=r"page\.tflite.*not a .tflite model.*<!DOCTYPE html"):
        load_model(path)


def test_an_unknown_name_lists_the_pretrained_models(tmp_path: Path) -> None:
    for wrong in ("no_such_model", tmp_path):
        with pytest.raises(KwsError) as caught:
            resolve_model(wrong)
        for name in pretrained_models():
            assert name in str(caught.value)


def test_a_pretrained_models_name_means_it_whatever_lies_in_the_current_folder(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("commands_en").write_bytes(write_card(model, CARD))
    assert load_model("commands_en").name == "commands_en"
    for file in ("./commands_en", Path("commands_en"), str(tmp_path / "commands_en")):
        assert load_model(file) == CARD
        # Also if the found path is passed on as text, as to a worker process.
        assert load_model(str(resolve_model(file))) == CARD
    Path("commands_en").unlink()
    assert load_model(Path("commands_en")).name == "commands_en"


def test_every_pretrained_model_is_found_by_its_name_and_has_a_card() -> None:
    for name in pretrained_models():
        assert load_model(name).name == name


def test_thresholds_for_after_a_wake_word_come_back_and_older_versions_read_cards_without() -> None:
    assert "after_wake" not in CARD.to_json()
    card = replace(CARD, decision=replace(CARD.decision, after_wake={"no": 0.25}))
    assert ModelCard.from_json(card.to_json()) == card


def test_a_front_end_that_is_not_the_default_comes_back() -> None:
    card = replace(
        CARD,
        front_end=FrontEndConfig(n_mfcc=10),
        feature_mean=(0.0,) * 10,
        feature_std=(1.0,) * 10,
        decision=DecisionConfig(thresholds={"yes": 0.25, "no": 1.0}, smoothing_ms=80.0),
    )
    assert ModelCard.from_json(card.to_json()) == card
