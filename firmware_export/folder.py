"""Writes a folder of generated files completely or not at all, and never over the user's files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from kws.errors import KwsError
from kws.system.files import atomic_write

_FIXED = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a folder that may be filled, but neither renamed nor given a neighbour."""
MANIFEST = "kws_firmware.json"
"""In every generated folder; lists what was written there."""


def write_folder(
    folder: Path,
    files: Mapping[str, str],
    facts: Mapping[str, Any],
    *,
    yours: Callable[[str], bool] = lambda name: False,
) -> list[str]:
    """Write a folder of text files, replacing one that was written before.

    Other files that were added to the folder (by a build, for example) stay.

    Args:
        folder: must be new, empty or written by this function.
        files: contents by path within the folder.
        facts: additional facts for the manifest.
        yours: whether a file is meant to be edited; edits to such files are kept.

    Returns:
        The edited files that were kept.

    Raises:
        KwsError: the folder was not written by this function, a file that is not `yours` was
            edited, the folder holds the current directory, or it cannot be exchanged as a whole;
            nothing is written then.
    """
    folder = folder.resolve()
    if folder.exists() and Path.cwd().is_relative_to(folder):
        raise KwsError(
            f"{folder} is replaced as a whole, which would remove the current directory. Received: "
            f"a call from {Path.cwd()}. Run it from outside the folder"
        )
    others, kept = _others(folder, files, yours)
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    new = folder.with_name(f".{folder.name}.{token}.part")
    old = folder.with_name(f".{folder.name}.{token}.old")
    try:
        for name, text in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name not in kept:
                path.write_text(text, encoding="utf-8", newline="\n")
        manifest = dict(facts) | {"files": {name: _sum(text) for name, text in files.items()}}
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        for name in others + kept:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (old / name).rename(target)
    except BaseException as error:
        if old.exists():
            # Restore the old folder, with the files that were moved out of it.
            for name in others + kept:
                if os.path.lexists(folder / name):
                    (folder / name).rename(old / name)
            shutil.rmtree(folder, ignore_errors=True)
            old.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _FIXED:
            raise KwsError(
                f"{folder} cannot be exchanged for a new one as a whole, perhaps because it is a "
                f"mount point or {folder.parent} may not be written. Received: {error.strerror}. "
                f"Give a new folder inside it, such as {folder / 'library'}"
            ) from error
        raise
    shutil.rmtree(old, ignore_errors=True)
    return kept


def facts_of(folder: Path) -> dict[str, Any]:
    """Return the facts in a folder's manifest; empty if there is no readable one."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def same_files(folder: Path, files: Mapping[str, str], names: Collection[str]) -> bool:
    """Return whether files of these names are in a folder with the same contents."""
    try:
        return all(_sum((folder / name).read_bytes()) == _sum(files[name]) for name in names)
    except OSError:
        return False


def replace_file(folder: Path, name: str, text: str) -> None:
    """Rewrite one generated file, and its checksum in the manifest."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][name] = _sum(text)
    for path, content in ((name, text), (MANIFEST, json.dumps(manifest, indent=2) + "\n")):
        with atomic_write(folder / path, "wb") as file:
            file.write(content.encode())


def _others(
    folder: Path, files: Mapping[str, str], yours: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """Return the files in `folder` that were not generated, and the edited ones that are kept.

    Raises:
        KwsError: a file that must not be lost would be overwritten.
    """
    if not folder.exists():
        return [], []
    if not folder.is_dir():
        raise KwsError(f"{folder} is a file. Give a folder to write to")
    there = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    ]
    if not there:
        return [], []
    if MANIFEST not in there:
        raise KwsError(
            f"{folder} holds files that kws firmware did not write. Received: {there[0]}. "
            "Give a new folder"
        )
    try:
        ours = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KwsError(
            f"{folder / MANIFEST} is damaged, so it is unknown which files may be replaced. "
            "Move the folder away or give a new one"
        ) from error
    others = [name for name in there if name not in ours and name != MANIFEST]
    edited = [
        name for name in there if name in ours and _sum((folder / name).read_bytes()) != ours[name]
    ]
    kept = [name for name in edited if yours(name)]
    in_the_way = [name for name in edited if name not in kept]
    in_the_way = in_the_way or [name for name in others if name in files]
    if in_the_way:
        raise KwsError(
            f"{folder / in_the_way[0]} was edited after kws firmware wrote it. Received: "
            f"{len(in_the_way)} such file{'s' * (len(in_the_way) > 1)}. Move the folder away or "
            "give a new one"
        )
    return others, kept


def _sum(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    # Git on Windows changes line endings, which does not count as an edit.
    return hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()
