"""Constants as C text: a C compiler reads back what NumPy holds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from firmware_export.c_source import c_array, c_comment

DTYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_compiler_reads_back_every_type_at_its_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = []
    for dtype in DTYPES:
        ends = [np.iinfo(dtype).min, np.iinfo(dtype).max]
        inner = rng.integers(*ends, size=40, dtype=dtype)
        arrays.append(np.concatenate([np.array(ends, dtype), inner]))
    text = "#include <stdint.h>\n#include <stdio.h>\n"
    text += "\n".join(c_array(f"a{i}", a) for i, a in enumerate(arrays))
    text += "\nint main(void) {\n"
    for i, a in enumerate(arrays):
        text += f'for (int j = 0; j < {a.size}; j++) printf("%lld\\n", (long long)a{i}[j]);\n'
    (tmp_path / "a.c").write_text(text + "return 0;\n}\n")
    build = ["gcc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "a.c", "-o", "a"]
    subprocess.run(build, cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "a"], capture_output=True, text=True, check=True).stdout
    assert [int(x) for x in out.split()] == [int(v) for a in arrays for v in a]


def test_a_comment_cannot_be_ended_by_its_text() -> None:
    assert c_comment("a */ b\nc").count("*/") == 1
