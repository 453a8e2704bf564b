"""The zoo: one file per architecture, a frozen dataclass of its sizes that builds its layers.

`build` takes the Keras module to build with, so that training (Keras 3, any backend) and export
(tf_keras, whose LSTM the TFLite converter fuses into one operator) share one definition.
"""

from __future__ import annotations

from kws.errors import KwsError
from kws.models.architecture import Architecture as Architecture
from kws.models.bc_resnet import BcResNet
from kws.models.bilstm import BiLstm
from kws.models.cnn2d import Cnn2d
from kws.models.cnn_lstm import CnnLstm
from kws.models.conv_lstm import ConvLstm
from kws.models.conv_lstm_classic import ConvLstmClassic
from kws.models.ds_cnn import DsCnn
from kws.models.gru import Gru
from kws.models.lstm import Lstm
from kws.models.raw_cnn import RawCnn
from kws.models.res_cnn import ResCnn

_KINDS: tuple[type[Architecture], ...] = (
    *(BcResNet, BiLstm, Cnn2d, CnnLstm, ConvLstm, ConvLstmClassic),
    *(DsCnn, Gru, Lstm, RawCnn, ResCnn),
)
ARCHITECTURES = {kind.name: kind for kind in _KINDS}


def architecture_named(name: str) -> type[Architecture]:
    """Return an architecture, a dataclass of its sizes.

    Raises:
        KwsError: an unknown name.
    """
    if name not in ARCHITECTURES:
        raise KwsError(
            f"Unknown architecture. Received: {name!r}. Known: {', '.join(sorted(ARCHITECTURES))}"
        )
    return ARCHITECTURES[name]
