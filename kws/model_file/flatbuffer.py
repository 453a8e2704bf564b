"""Reads and writes one named metadata entry of a .tflite, using only `struct` and NumPy.

A .tflite is a FlatBuffer. The part of the format that matters here (FlatBuffers "Internals" and
TFLite's schema.fbs, version 3):

- Everything is little-endian. The file starts with the position of the root table (uint32) and
  the identifier ``TFL3``.
- A table starts with an int32: its own position minus this is the position of its vtable. A
  vtable is uint16s: its length in bytes, the table's length, then for each field the offset
  inside the table (0 or beyond the vtable's end: the field is absent).
- A reference is a uint32 counted from its own position, so it always points forwards. A vector or
  string is a uint32 count followed by the elements.
- Model {version, operator_codes, subgraphs, description, buffers, metadata_buffer, metadata,
  signature_defs}; Metadata {name, buffer: index into Model.buffers}; Buffer {data, offset, size}.

Writing puts a new block in front of the old bytes: a new root table whose fields refer into the old
content, new vectors `buffers` and `metadata` (the old elements and one more), and the payload.
Since references only point forwards, and the old bytes move as a whole by a multiple of 16, nothing
in them changes and the weights stay aligned. The block is marked, so that writing again replaces it
instead of growing the file, and holds a CRC-32 of the whole file, because an interpreter may crash
on a damaged one. Files rewritten by another tool carry neither mark nor checksum and can still be
read.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
# Between the identifier and the root table of a block written here, where no table refers to: this
# mark, then as uint32 the length of the block and the CRC-32 of the file, itself taken as zero.
_MARK = b"KWSmeta1"
_MARK_AT = 8
_LENGTH_AT = 16
_SUM_AT = 20
_HEADER_LENGTH = 32

# Field numbers in the order of schema.fbs.
_MODEL_VERSION = 0
_MODEL_REFERENCES = (1, 2, 3, 5, 7)  # passed on unchanged: all but buffers and metadata
_MODEL_BUFFERS = 4
_MODEL_METADATA = 6
_MODEL_FIELDS = 8
_METADATA_NAME = 0
_METADATA_BUFFER = 1
_BUFFER_DATA = 0
_BUFFER_OFFSET = 1
# Lengths of the tables that are written here, in bytes; a vtable of theirs is padded to 8.
_ROOT_LENGTH = 4 + 4 * _MODEL_FIELDS
_METADATA_LENGTH = 12
_BUFFER_LENGTH = 8
_VTABLE_LENGTH = 8

_MAX_BYTES = 2**31 - 1


def read_metadata(model: bytes, name: str) -> bytes | None:
    """Return the metadata named `name`, or None if there is none.

    Args:
        model: content of a .tflite file.
        name: name of the entry.

    Raises:
        KwsError: not a .tflite, or one that is cut off or damaged.

    Example:
        >>> read_metadata(Path("model.tflite").read_bytes(), "kws")  # doctest: +SKIP
        b'{"schema_version": 1, ...
    """
    view = View(model)
    check_sum(model)
    for entry in view.metadata():
        if entry.name == name.encode():
            return view.buffer(entry.buffer)
    return None


def write_metadata(model: bytes, name: str, payload: bytes) -> bytes:
    """Return `model` with `payload` as its metadata named `name`, replacing any of that name.

    Args:
        model: content of a .tflite file.
        name: name of the entry.
        payload: any bytes.

    Raises:
        KwsError: not a .tflite, a damaged one, or one of more than 2 GB.
    """
    view = View(model)
    check_sum(model)
    entries = {name.encode(): payload}
    block = _our_block(model)
    if block:
        # Entries written by earlier calls are in the block that is being replaced.
        for entry in view.metadata():
            if entry.at < block:
                entries.setdefault(entry.name, view.buffer(entry.buffer))
        model = model[block:]
        view = View(model)
    result = bytearray(_block(view, entries) + model)
    if len(result) > _MAX_BYTES:
        raise KwsError(
            f"A .tflite holds at most 2 GB. Received: {len(result)} bytes with its metadata"
        )
    struct.pack_into("<I", result, _SUM_AT, _sum(result))
    return bytes(result)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A Metadata table."""

    at: int
    """Position in the file."""
    name: bytes
    """Its name, UTF-8."""
    buffer: int
    """Index into Model.buffers of its content."""


class View:
    """A .tflite's bytes, read with every position checked; an impossible one is a KwsError."""

    def __init__(self, model: bytes) -> None:
        self.bytes = model
        if model[4:8] != _IDENTIFIER:
            raise KwsError(
                "This is not a .tflite model (the identifier TFL3 is missing). "
                f"Received: {len(model)} bytes starting with {model[:16]!a}. "
                "Give a file made by `kws export`, not a link or an archive"
            )
        if len(model) > _MAX_BYTES:
            raise KwsError(f"A .tflite holds at most 2 GB. Received: {len(model)} bytes")
        self.root = self.unsigned(0)
        self.field(self.root, 0)  # there must be a table

    def unsigned(self, at: int) -> int:
        """Return the uint32 at `at`."""
        if not 0 <= at <= len(self.bytes) - 4:
            raise self.damage(at)
        return int(struct.unpack_from("<I", self.bytes, at)[0])

    def short(self, at: int) -> int:
        """Return the uint16 at `at`."""
        if not 0 <= at <= len(self.bytes) - 2:
            raise self.damage(at)
        return int(struct.unpack_from("<H", self.bytes, at)[0])

    def damage(self, at: int) -> KwsError:
        """Return the error for an impossible position."""
        return KwsError(
            "This .tflite is cut off or damaged. "
            f"Received: {len(self.bytes)} bytes, of which byte {at} is needed. "
            "Copy or export it again"
        )

    def field(self, table: int, number: int) -> int | None:
        """Return the position of field `number` of the table at `table`; None if it is absent."""
        distance = struct.unpack("<i", struct.pack("<I", self.unsigned(table)))[0]
        vtable = table - distance
        length = self.short(vtable)
        slot = 4 + 2 * number
        if length < 4 or vtable + length > len(self.bytes):
            raise self.damage(vtable)
        if slot + 2 > length:
            return None
        offset = self.short(vtable + slot)
        return table + offset if offset else None

    def reference(self, table: int, number: int) -> int | None:
        """Return the position that field `number`, a reference, leads to; None if absent."""
        at = self.field(table, number)
        if at is None:
            return None
        target = at + self.unsigned(at)
        # Checked here, because some references are passed on without being followed.
        if target > len(self.bytes) - 4:
            raise self.damage(target)
        return target

    def content(self, at: int) -> bytes:
        """Return the vector of bytes, or string, at `at`."""
        count = self.unsigned(at)
        if count > len(self.bytes) - at - 4:
            raise self.damage(at + 4 + count)
        return self.bytes[at + 4 : at + 4 + count]

    def tables(self, at: int | None) -> NDArray[np.int64]:
        """Return the positions of the tables in the vector at `at` (none if it is absent)."""
        if at is None:
            return np.zeros(0, np.int64)
        count = self.unsigned(at)
        if 4 * count > len(self.bytes) - at - 4:
            raise self.damage(at + 4 + 4 * count)
        slots = at + 4 + 4 * np.arange(count, dtype=np.int64)
        result: NDArray[np.int64] = slots + np.frombuffer(self.bytes, "<u4", count, at + 4)
        if count and int(result.max()) > len(self.bytes) - 4:
            raise self.damage(int(result.max()))
        return result

    def metadata(self) -> list[_Entry]:
        """Return the Metadata tables."""
        entries = []
        for table in self.tables(self.reference(self.root, _MODEL_METADATA)).tolist():
            name = self.reference(table, _METADATA_NAME)
            # Only short names are read, so that a malicious file with many entries sharing one
            # long name costs no time.
            short = name is not None and self.unsigned(name) <= 1000
            buffer = self.field(table, _METADATA_BUFFER)
            entries.append(
                _Entry(
                    at=table,
                    name=self.content(name) if name is not None and short else b"",
                    buffer=0 if buffer is None else self.unsigned(buffer),
                )
            )
        return entries

    def buffers(self) -> NDArray[np.int64]:
        """Return the positions of the Buffer tables."""
        return self.tables(self.reference(self.root, _MODEL_BUFFERS))

    def buffer(self, index: int) -> bytes:
        """Return the content of buffer `index`."""
        tables = self.buffers()
        if index >= len(tables):
            raise KwsError(
                f"This .tflite is damaged: its metadata refers to buffer {index}. "
                f"Received: {len(tables)} buffers. Copy or export it again"
            )
        return self.buffer_content(int(tables[index]))

    def buffer_content(self, table: int) -> bytes:
        """Return the content of the Buffer table at `table`."""
        data = self.reference(table, _BUFFER_DATA)
        return b"" if data is None else self.content(data)


def _our_block(model: bytes) -> int:
    """Return the length of the block that `write_metadata` put in front, 0 if there is none."""
    if model[_MARK_AT : _MARK_AT + len(_MARK)] != _MARK:
        return 0
    length = int.from_bytes(model[_LENGTH_AT : _LENGTH_AT + 4], "little")
    if length % _ALIGNMENT or model[length + 4 : length + 8] != _IDENTIFIER or length == 0:
        return 0
    return length


def _sum(model: bytes | bytearray) -> int:
    """Return the CRC-32 of a file with such a block, the checksum's own bytes taken as zero."""
    before = zlib.crc32(memoryview(model)[:_SUM_AT])
    return zlib.crc32(memoryview(model)[_SUM_AT + 4 :], zlib.crc32(bytes(4), before))


def check_sum(model: bytes) -> None:
    """Raise KwsError if the file carries a checksum that its content does not match."""
    if model[_MARK_AT : _MARK_AT + len(_MARK)] != _MARK:
        return
    stored = int.from_bytes(model[_SUM_AT : _SUM_AT + 4], "little")
    if stored != _sum(model):
        raise KwsError(
            "This .tflite is cut off or damaged: its checksum does not match. "
            f"Received: {len(model)} bytes. Copy or export it again"
        )


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Positions inside a block; its parts follow each other in this order, after the header."""

    root: int
    """The root table."""
    root_vtable: int
    """Its vtable."""
    buffers: int
    """The vector of all buffers."""
    metadata: int
    """The vector of all metadata."""
    tables: int
    """For each new entry a Metadata table (vtable reference, name, buffer) and a Buffer table
    (vtable reference, data)."""
    vtables: int
    """One vtable for all Metadata tables, then one for all Buffer tables."""
    names: list[int]
    """The names of the new entries."""
    payloads: list[int]
    """Their contents."""
    length: int
    """Length of the block."""


def _lay_out(entries: dict[bytes, bytes], n_buffers: int, n_metadata: int) -> _Layout:
    """Lay out a block that adds `entries` to this many buffers and metadata entries."""
    root = _HEADER_LENGTH
    root_vtable = root + _ROOT_LENGTH
    buffers = _round_up(root_vtable + 4 + 2 * _MODEL_FIELDS, 4)
    metadata = buffers + 4 + 4 * (n_buffers + len(entries))
    tables = metadata + 4 + 4 * (n_metadata + len(entries))
    vtables = tables + (_METADATA_LENGTH + _BUFFER_LENGTH) * len(entries)
    at = vtables + 2 * _VTABLE_LENGTH
    names, payloads = [], []
    for name in entries:
        names.append(at)
        at = _round_up(at + 4 + len(name) + 1, 4)  # strings end with a zero byte
    for payload in entries.values():
        # Buffer.data is aligned to 16 bytes: its elements are, not its count.
        at = _round_up(at + 4, _ALIGNMENT) - 4
        payloads.append(at)
        at += 4 + len(payload)
    return _Layout(
        root=root,
        root_vtable=root_vtable,
        buffers=buffers,
        metadata=metadata,
        tables=tables,
        vtables=vtables,
        names=names,
        payloads=payloads,
        length=_round_up(at, _ALIGNMENT),
    )


def _block(old: View, entries: dict[bytes, bytes]) -> bytes:
    """Return the block that goes in front of `old` so that it has `entries` in its metadata."""
    old_buffers = old.buffers()
    # Such an offset is counted from the start of the file, and would shift.
    if any(old.field(int(table), _BUFFER_OFFSET) is not None for table in old_buffers[:1]):
        raise KwsError(
            "This .tflite keeps its weights outside the tables, which kws cannot write. Received: "
            f"{len(old.bytes)} bytes. Export a model of less than 2 GB"
        )
    kept = [entry for entry in old.metadata() if entry.name not in entries]
    layout = _lay_out(entries, len(old_buffers), len(kept))
    block = bytearray(layout.length)
    _put(block, 0, layout.root)
    block[4:8] = _IDENTIFIER
    block[_MARK_AT : _MARK_AT + len(_MARK)] = _MARK
    _put(block, _LENGTH_AT, len(block))
    _put_root(block, layout, old)
    _put(block, layout.buffers, len(old_buffers) + len(entries))
    _put(block, layout.metadata, len(kept) + len(entries))
    for i, table in enumerate(old_buffers.tolist()):
        _refer(block, layout.buffers + 4 + 4 * i, len(block) + table)
    for i, entry in enumerate(kept):
        _refer(block, layout.metadata + 4 + 4 * i, len(block) + entry.at)
    _put_entries(block, layout, entries, len(old_buffers), len(kept))
    return bytes(block)


def _put_root(block: bytearray, layout: _Layout, old: View) -> None:
    """Write the root table: the two new vectors, and for the rest references into the old file."""
    # The vtable stands after its table: the distance is negative.
    struct.pack_into("<i", block, layout.root, layout.root - layout.root_vtable)
    slots = [0] * _MODEL_FIELDS
    version = old.field(old.root, _MODEL_VERSION)
    if version is not None:
        slots[_MODEL_VERSION] = 4
        _put(block, layout.root + 4, old.unsigned(version))
    targets = {_MODEL_BUFFERS: layout.buffers, _MODEL_METADATA: layout.metadata}
    for field in _MODEL_REFERENCES:
        target = old.reference(old.root, field)
        if target is not None:
            targets[field] = len(block) + target
    for field, target in targets.items():
        slots[field] = 4 + 4 * field
        _refer(block, layout.root + slots[field], target)
    lengths = (4 + 2 * _MODEL_FIELDS, _ROOT_LENGTH)
    struct.pack_into(f"<{2 + _MODEL_FIELDS}H", block, layout.root_vtable, *lengths, *slots)


def _put_entries(
    block: bytearray, layout: _Layout, entries: dict[bytes, bytes], n_buffers: int, n_metadata: int
) -> None:
    """Write the new entries after this many old buffers and metadata entries."""
    metadata_vtable, buffer_vtable = layout.vtables, layout.vtables + _VTABLE_LENGTH
    struct.pack_into("<4H", block, metadata_vtable, 8, _METADATA_LENGTH, 4, 8)
    struct.pack_into("<3H", block, buffer_vtable, 6, _BUFFER_LENGTH, 4)
    for i, (name, payload) in enumerate(entries.items()):
        metadata = layout.tables + (_METADATA_LENGTH + _BUFFER_LENGTH) * i
        buffer = metadata + _METADATA_LENGTH
        _refer(block, layout.metadata + 4 + 4 * (n_metadata + i), metadata)
        _refer(block, layout.buffers + 4 + 4 * (n_buffers + i), buffer)
        struct.pack_into("<i", block, metadata, metadata - metadata_vtable)
        _refer(block, metadata + 4, layout.names[i])
        _put(block, metadata + 8, n_buffers + i)
        struct.pack_into("<i", block, buffer, buffer - buffer_vtable)
        _refer(block, buffer + 4, layout.payloads[i])
        for at, content in ((layout.names[i], name), (layout.payloads[i], payload)):
            _put(block, at, len(content))
            block[at + 4 : at + 4 + len(content)] = content


def _put(block: bytearray, at: int, value: int) -> None:
    """Write a uint32."""
    struct.pack_into("<I", block, at, value)


def _refer(block: bytearray, at: int, target: int) -> None:
    """Write a reference to the position `target`."""
    _put(block, at, target - at)


def _round_up(number: int, multiple: int) -> int:
    """Return `number` rounded up to a multiple."""
    return -(-number // multiple) * multiple
