"""Reads and writes one named metadata entry of a .tflite, with `struct` and NumPy alone.

A .tflite is a FlatBuffer. What is needed of the format (FlatBuffers "Internals" and TFLite's
schema.fbs, version 3):

- Everything is little-endian. The file starts with the position of the root table (uint32) and
  the identifier ``TFL3``.
- A table starts with an int32: its own position minus this is the position of its vtable. A
  vtable is uint16s: its length in bytes, the table's length, then for each field the offset
  inside the table (0 or beyond the vtable's end: the field is absent).
- A reference is a uint32 counted from its own position, hence always forwards. A vector or string
  is a uint32 count followed by the elements.
- Model {version, operator_codes, subgraphs, description, buffers, metadata_buffer, metadata,
  signature_defs}; Metadata {name, buffer: index into Model.buffers}; Buffer {data, offset, size}.

Writing puts a new block in front of the untouched old bytes: a new root table whose fields refer
into the old content, new vectors `buffers` and `metadata` (old elements and one more), and the
payload. Because references only ever point forwards, and the old bytes move as a whole by a
multiple of 16, nothing in them changes and the alignment of the weights stays. The block is
marked, so that writing again replaces it instead of growing the file, and holds a CRC-32 of the
whole file: an interpreter may crash on a file whose inside is damaged. Files that another tool has
written anew carry neither mark nor sum and are read all the same.
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
# Stands between the identifier and the root table of a block of ours, where no table refers to:
# this mark, then as uint32 the length of the block and the CRC-32 of the file with zero for itself.
_MARK = b"KWSmeta1"
_MARK_AT = 8
_LENGTH_AT = 16
_SUM_AT = 20
_HEADER_LENGTH = 32

# Field numbers in the order of schema.fbs.
_MODEL_VERSION = 0
_MODEL_REFERENCES = (1, 2, 3, 5, 7)  # those passed on: everything but buffers and metadata
_MODEL_BUFFERS = 4
_MODEL_METADATA = 6
_MODEL_FIELDS = 8
_METADATA_NAME = 0
_METADATA_BUFFER = 1
_BUFFER_DATA = 0
_BUFFER_OFFSET = 1

_MAX_BYTES = 2**31 - 1


def read_metadata(model: bytes, name: str) -> bytes | None:
    """Return the metadata that stands under `name`, or None when there is none.

    Args:
        model: content of a .tflite file.
        name: name of the entry.

    Raises:
        KwsError: not a .tflite, or one that is cut off or damaged where this has to look.

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
    """Return `model` with `payload` as its metadata under `name`, in place of what stood there.

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
        # Entries that earlier calls wrote live in the block that is about to go.
        for entry in view.metadata():
            if entry.at < block:
                entries.setdefault(entry.name, view.buffer(entry.buffer))
        model = model[block:]
        view = View(model)
    result = bytearray(_block(view, entries) + model)
    if len(result) > _MAX_BYTES:
        raise KwsError(f"A .tflite ends at 2 GB. Received: {len(result)} bytes with its metadata")
    struct.pack_into("<I", result, _SUM_AT, _sum(result))
    return bytes(result)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A Metadata table."""

    at: int
    """Its position in the file."""
    name: bytes
    """Its name, UTF-8."""
    buffer: int
    """Index into Model.buffers of its content."""


class View:
    """A .tflite's bytes, read with every position checked; what cannot be is a KwsError."""

    def __init__(self, model: bytes) -> None:
        self.bytes = model
        if model[4:8] != _IDENTIFIER:
            raise KwsError(
                "This is not a .tflite model (the identifier TFL3 is missing). "
                f"Received: {len(model)} bytes starting with {model[:16]!a}. "
                "Give a file made by `kws export`, not a link or an archive"
            )
        if len(model) > _MAX_BYTES:
            raise KwsError(f"A .tflite ends at 2 GB. Received: {len(model)} bytes")
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
        """Return the error for a position that cannot be."""
        return KwsError(
            "This .tflite is cut off or damaged. "
            f"Received: {len(self.bytes)} bytes, of which byte {at} is needed. "
            "Copy or export it again"
        )

    def field(self, table: int, number: int) -> int | None:
        """Return where field `number` of the table at `table` stands; None if it is absent."""
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
            # Only names of a sensible length are looked at, so that a malicious file with
            # many entries that share one long name costs no time.
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
                "This .tflite is damaged: its metadata is said to stand in buffer "
                f"{index}. Received: {len(tables)} buffers. Copy or export it again"
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
    """Return the CRC-32 of a file with a block of ours, its own four bytes taken as zero."""
    before = zlib.crc32(memoryview(model)[:_SUM_AT])
    return zlib.crc32(memoryview(model)[_SUM_AT + 4 :], zlib.crc32(bytes(4), before))


def check_sum(model: bytes) -> None:
    """Raise KwsError if the file carries a checksum of ours that its content does not have."""
    if model[_MARK_AT : _MARK_AT + len(_MARK)] != _MARK:
        return
    stored = int.from_bytes(model[_SUM_AT : _SUM_AT + 4], "little")
    if stored != _sum(model):
        raise KwsError(
            "This .tflite is cut off or damaged: its checksum does not match. "
            f"Received: {len(model)} bytes. Copy or export it again"
        )


def _block(old: View, entries: dict[bytes, bytes]) -> bytes:
    """Return the block that goes in front of `old` so that it has `entries` in its metadata."""
    old_buffers = old.buffers()
    # A reference into a file of 2 GB and more is counted from the file's start, and would shift.
    if any(old.field(int(table), _BUFFER_OFFSET) is not None for table in old_buffers[:1]):
        raise KwsError(
            "This .tflite keeps its weights outside the tables, which kws does not write"
        )
    kept = [entry for entry in old.metadata() if entry.name not in entries]

    # Positions inside the block, in this order: header, root table, the two vectors, tables of
    # the entries, their vtables, names, payloads.
    root = _HEADER_LENGTH
    vtable_length = 4 + 2 * _MODEL_FIELDS
    buffers = _up(root + 4 + 4 * _MODEL_FIELDS + vtable_length, 4)
    metadata = buffers + 4 + 4 * (len(old_buffers) + len(entries))
    tables = metadata + 4 + 4 * (len(kept) + len(entries))
    # Per entry: a Metadata table (vtable reference, name, buffer) and a Buffer table (vtable
    # reference, data). One vtable serves all tables of a kind.
    table_length = 12 + 8
    vtables = tables + table_length * len(entries)
    at = vtables + 8 + 8
    names, payloads = [], []
    for name in entries:
        names.append(at)
        at = _up(at + 4 + len(name) + 1, 4)  # strings end with a zero byte
    for payload in entries.values():
        # Buffer.data is aligned to 16 bytes: its elements are, not its count.
        at = _up(at + 4, _ALIGNMENT) - 4
        payloads.append(at)
        at += 4 + len(payload)
    block = bytearray(_up(at, _ALIGNMENT))

    def put(position: int, value: int) -> None:
        struct.pack_into("<I", block, position, value)

    def refer(position: int, target: int) -> None:
        put(position, target - position)

    put(0, root)
    block[4:8] = _IDENTIFIER
    block[_MARK_AT : _MARK_AT + len(_MARK)] = _MARK
    put(_LENGTH_AT, len(block))

    # The root's vtable stands behind the root: the distance is negative.
    root_vtable = root + 4 + 4 * _MODEL_FIELDS
    struct.pack_into("<i", block, root, root - root_vtable)
    slots = [0] * _MODEL_FIELDS
    version = old.field(old.root, _MODEL_VERSION)
    if version is not None:
        slots[_MODEL_VERSION] = 4
        put(root + 4, old.unsigned(version))
    targets = {field: old.reference(old.root, field) for field in _MODEL_REFERENCES}
    for field, target in targets.items():
        if target is not None:
            slots[field] = 4 + 4 * field
            refer(root + slots[field], len(block) + target)
    for field, position in ((_MODEL_BUFFERS, buffers), (_MODEL_METADATA, metadata)):
        slots[field] = 4 + 4 * field
        refer(root + slots[field], position)
    struct.pack_into(
        f"<{2 + _MODEL_FIELDS}H", block, root_vtable, vtable_length, 4 + 4 * _MODEL_FIELDS, *slots
    )

    metadata_vtable, buffer_vtable = vtables, vtables + 8
    struct.pack_into("<4H", block, metadata_vtable, 8, 12, 4, 8)
    struct.pack_into("<3H", block, buffer_vtable, 6, 8, 4)

    put(buffers, len(old_buffers) + len(entries))
    put(metadata, len(kept) + len(entries))
    for i, table in enumerate(old_buffers.tolist()):
        refer(buffers + 4 + 4 * i, len(block) + table)
    for i, entry in enumerate(kept):
        refer(metadata + 4 + 4 * i, len(block) + entry.at)
    for i, (name, payload) in enumerate(entries.items()):
        metadata_table = tables + table_length * i
        buffer_table = metadata_table + 12
        refer(metadata + 4 + 4 * (len(kept) + i), metadata_table)
        refer(buffers + 4 + 4 * (len(old_buffers) + i), buffer_table)
        struct.pack_into("<i", block, metadata_table, metadata_table - metadata_vtable)
        refer(metadata_table + 4, names[i])
        put(metadata_table + 8, len(old_buffers) + i)
        struct.pack_into("<i", block, buffer_table, buffer_table - buffer_vtable)
        refer(buffer_table + 4, payloads[i])
        put(names[i], len(name))
        block[names[i] + 4 : names[i] + 4 + len(name)] = name
        put(payloads[i], len(payload))
        block[payloads[i] + 4 : payloads[i] + 4 + len(payload)] = payload
    return bytes(block)


def _up(number: int, multiple: int) -> int:
    """Return `number` rounded up to a multiple."""
    return -(-number // multiple) * multiple
