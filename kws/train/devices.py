"""What training runs on: one device, or several that share every batch.

Several are used through Keras' data parallelism. On jax that is one program over all devices: the
compiler cuts it along the batch, and whatever is taken over a batch (the loss, gradients, the
statistics of a normalisation) is taken over all of it (Y. Xu et al., "GSPMD", arXiv 2105.04663).
So the number of devices changes the rounding of a run and nothing else.
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
"""Backends on which Keras shares batches among devices of one process. Elsewhere it takes a
distribution without a word and trains on the first device (Keras 3.15)."""


def accelerators() -> list[str]:
    """Return the devices beside the CPU that Keras' backend found, such as ``"gpu:0"``."""
    devices = keras.distribution.list_devices()
    return [name for name in devices if not name.lower().startswith("cpu")]


def device_name() -> str:
    """Say what Keras runs on: ``"jax on 2 devices: gpu:0, gpu:1"``, ``"jax on CPU (2 cores)"``."""
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
        wanted: how many, of any kind; None for all accelerators that can be used.
        sequences: in a batch; each device gets as many of them as any other.

    Raises:
        KwsError: so many as are wanted cannot be used.
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
                f"a batch of {sequences} sequences cannot be shared equally by all"
                if backend in SHARING
                else f"on {backend} Keras trains on one; --backend {SHARING[0]} uses several"
            )
            tell(f"using {usable} of {most} devices ({', '.join(found)}): {reason}")
        return found[:usable]
    complaint = None
    if wanted > len(found):
        complaint = f"at most the {len(found)} that {backend} finds ({', '.join(found)})"
    elif wanted > 1 and backend not in SHARING:
        complaint = f"1 on {backend}; several need --backend {SHARING[0]}"
    elif sequences % wanted:
        complaint = (
            f"a number by which the {sequences} sequences of a batch can be divided "
            "([training] batch_size / context_clips, and those that stretch_share adds)"
        )
    if complaint:
        raise KwsError(f"--devices must be {complaint}. Received: {wanted}")
    return found[:wanted]


def shared_by(devices: list[str]) -> contextlib.AbstractContextManager[None]:
    """Return a context in which what is built and trained is shared by the devices."""
    if len(devices) < 2:
        return contextlib.nullcontext()
    return keras.distribution.DataParallel(devices=devices).scope()


def clip_source(pcm: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Keep the clips where they are trained on: all on each of the devices, if they fit there.

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

        # TensorFlow's own gather knows int16 on the CPU only: it would bring the whole set back
        # for every batch. XLA's runs where the clips are.
        take = tensorflow.function(take, jit_compile=True, autograph=False)
    try:
        held = _held(pcm)
        take(held, np.zeros(1, np.int32))
    except Exception as error:  # each backend has its own for memory that is used up
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        tell(f"the clips stay in main memory, since they do not fit on the device ({reason[:200]})")
        return pcm.__getitem__
    return lambda chosen: take(held, chosen.astype(np.int32))


def _held(array: np.ndarray) -> Any:
    """Put an array on the device, or a copy on each of several."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return keras.ops.convert_to_tensor(array)
    # Every device picks the whole batch from its copy and keeps its part: that costs memory and
    # little time, and no batch travels from one device to another.
    everywhere = keras.distribution.TensorLayout([None] * array.ndim, distribution.device_mesh)
    return keras.distribution.distribute_tensor(array, everywhere)
