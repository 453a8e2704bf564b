"""What holds for every command: help with an example, alike options, one line for bad usage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from kws.cli import app, run

GROUP: Any = typer.main.get_command(app)


def commands(group: Any = GROUP, *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        yield (*above, name), command
        yield from commands(command, *above, name) if hasattr(command, "commands") else ()


COMMANDS = dict(commands())
LEAVES = {words: command for words, command in COMMANDS.items() if words != ("data",)}


def options() -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Every option and argument with the words that call its command, and its explanation."""
    for words, command in LEAVES.items():
        context = typer.Context(command)
        for parameter in command.params:
            yield words, parameter, parameter.get_help_record(context)[1]


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_help_has_an_example_that_calls_this_command(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(rf"Examples?: .*{' '.join(['kws', *words])} ", shown)


@pytest.mark.parametrize("words", [(), ("data",)], ids=" ".join)
def test_lists_of_commands_show_whole_sentences(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert len(listed) >= 7
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_commands_stand_in_the_order_in_which_they_are_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = []
    for words in ([], ["data"]):
        run([*words, "--help"])
        listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
        shown.append([line.split()[0] for line in listed])
    assert [" ".join(names) for names in shown] == [
        "demo new data train verdict export info evaluate calibrate mine run listen serve "
        "firmware benchmark",
        "list info fetch add record synth part stream",
    ]


def test_every_option_and_argument_is_explained() -> None:
    unexplained = [(words, p.name) for words, p, text in options() if len(text) < 15]
    assert not unexplained


def test_what_means_the_same_is_called_the_same() -> None:
    names = {flag for _, parameter, _ in options() for flag in parameter.opts if flag[0] == "-"}
    assert not names & {"--output", "--dir", "--quiet", "--format"}
    for words, parameter, text in options():
        if "--out" in parameter.opts:
            assert "-o" in parameter.opts, words
        if "--json" in parameter.opts:
            assert re.match(r"Print one JSON (object|list)", text), words
        if parameter.name == "model":
            assert text.startswith("A .tflite file or the name of a pretrained model."), words


@pytest.mark.parametrize(
    "words",
    [words for words, command in LEAVES.items() if any(p.required for p in command.params)],
    ids=" ".join,
)
def test_a_missing_argument_is_one_line_and_status_2(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        rf"kws: Missing (argument|option) .* See: kws {' '.join(words)} --help\n", err
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("run --nonsense x.wav", "No such option"),
        ("run --threshold 0 x.wav", "Invalid value for '--threshold': It must be above 0"),
        ("listen --threshold nan", "Invalid value for '--threshold': It must be above 0"),
        ("run --threshold loud x.wav", "Invalid value for '--threshold': "),
        ("train commands_en --epochs 0", "Invalid value for '--epochs': "),
        ("train commands_en --out", "Option '--out' requires an argument"),
        ("evaluate commands_en", "Give either DIR or --stream AUDIO"),
        ("data synth", "Give at least one WORD"),
        ("data synth yes", "--to DIR"),
        ("info a.tflite b.tflite", "Got unexpected extra argument"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    line: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert re.fullmatch(r"kws: .*[.?] See: kws.* --help\n", err)
