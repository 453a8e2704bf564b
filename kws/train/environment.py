"""What a run was made with, so that it can be reproduced."""

from __future__ import annotations

import platform
from importlib import metadata

from kws.system.processes import usable_cores


def environment() -> dict[str, object]:
    """Return what a run is made with: versions, machine, usable cores."""
    names = ("kws", "numpy", "keras", "tensorflow", "jax", "tf-keras")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": usable_cores(),
        "packages": versions,
    }
