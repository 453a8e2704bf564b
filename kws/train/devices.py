"""What training runs on: one device, or several that share every batch.

Several are used through Keras' data parallelism. On jax that is one program over all devices: the
compiler splits it along the batch, and everything computed over a batch (the loss, gradients, the
statistics of a normalisation) still covers the whole batch (Y. Xu et al., "GSPMD", arXiv
2105.04663). So the number of devices changes only the rounding of a run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kws.errors import KwsError
from kws.system.native import heed_interrupts, quiet_stderr
from kws.system.processes import usable_cores
from kws.system.progress import tell

SHARING = ("jax",)
"""Backends on which Keras shares batches among devices of one process. Elsewhere it silently
accepts a distribution and trains on the first device (Keras 3.15)."""


def accelerators() -> list[str]:
    """Return the devices other than the CPU that Keras' backend found, such as ``"gpu:0"``."""
    devices = keras.distribution.list_devices()
    return [name for name in devices if not name.lower().startswith("cpu")]


def device_name() -> str:
    """Return what Keras runs on, as ``"jax on 2 devices: gpu:0, gpu:1"``."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        devices = next(iter(accelerators()), f"CPU ({usable_cores()} cores)")
    else:
        names = distribution.device_mesh.devices.flatten()
        devices = f"{len(names)} devices: {', '.join(names)}"
    return f"{keras.backend.backend()} on {devices}"


def choose_devices(wanted: int | None, sequences: int) -> list[str]:
    """Return the devices to train on.

    Args:
        wanted: how many, of any kind; None for all usable accelerators.
        sequences: in a batch; all devices get the same number.

    Raises:
        KwsError: that many cannot be used.
    """
    with heed_interrupts(), quiet_stderr():
        found = keras.distribution.list_devices()
        most = len(accelerators()) or 1
    backend = keras.backend.backend()
    if wanted is None:
        usable = 1
        if backend in SHARING:
            usable = max(n for n in range(1, most + 1) if sequences % n == 0)
        if usable < most:
            reason = (
                f"a batch of {sequences} sequences cannot be shared equally among all"
                if backend in SHARING
                else f"with {backend}, Keras trains on one; --backend {SHARING[0]} uses several"
            )
            tell(f"using {usable} of {most} devices ({', '.join(found)}): {reason}")
        return found[:usable]
    complaint = None
    if wanted > len(found):
        complaint = f"at most the {len(found)} that {backend} finds ({', '.join(found)})"
    elif wanted > 1 and backend not in SHARING:
        complaint = f"1 with {backend}; several need --backend {SHARING[0]}"
    elif sequences % wanted:
        complaint = (
            f"a divisor of the {sequences} sequences in a batch "
            "([training] batch_size / context_clips, plus those that stretch_share adds)"
        )
    if complaint:
        raise KwsError(f"--devices must be {complaint}. Received: {wanted}")
    return found[:wanted]


def shared_by(devices: list[str]) -> contextlib.AbstractContextManager[None]:
    """Return a context in which models are built and trained on all of the devices."""
    if len(devices) < 2:
        return contextlib.nullcontext()
    return keras.distribution.DataParallel(devices=devices).scope()


def clip_source(pcm: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Keep the clips where they are needed: a full copy on each device, if they fit there.

    Args:
        pcm: int16 [n, clip_samples].

    Returns:
        A function that picks clips by their numbers, int [sequences, clips] → int16 [sequences,
        clips, clip_samples].
    """
    if not accelerators() and keras.distribution.distribution() is None:
        return pcm.__getitem__
    take: Any = lambda clips, chosen: keras.ops.take(clips, chosen, axis=0)  # noqa: E731
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        # TensorFlow's own gather supports int16 only on the CPU: it would copy the whole set back
        # for every batch. XLA's runs where the clips are.
        take = tensorflow.function(take, jit_compile=True, autograph=False)
    try:
        held = _held(pcm)
        take(held, np.zeros(1, np.int32))
    except Exception as error:  # each backend has its own type for "out of memory"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        tell(f"the clips stay in main memory, since they do not fit on the device ({reason[:200]})")
        return pcm.__getitem__
    return lambda chosen: take(held, chosen.astype(np.int32))


def _held(array: np.ndarray) -> Any:
    """Put an array on the device, or a copy on each of several."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return keras.ops.convert_to_tensor(array)
    # Every device picks the whole batch from its copy and keeps its part: that costs memory but
    # little time, and no batch is copied between devices.
    everywhere = keras.distribution.TensorLayout([None] * array.ndim, distribution.device_mesh)
    return keras.distribution.distribute_tensor(array, everywhere)
