"""A recipe as frozen dataclasses: one for each table of the file, with all defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kws.audio.samples import SAMPLE_RATE_HZ
from kws.data.labels import LabelSet
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.labels import folded
from kws.models import Architecture, architecture_named

LARGEST_SEED = 40_000_000
"""Seeds have 32 bits, and each seed of a recipe uses a hundred of them."""


def _check_ranges(config: Any, table: str, **limits: tuple[float, float]) -> None:
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            where = f"[{table}] {name}" if table else name
            raise KwsError(f"{where} must lie between {low} and {high}. Received: {value}")


def _check_pairs(config: Any, table: str, **limits: tuple[float, float]) -> None:
    for name, (lowest, highest) in limits.items():
        low, high = getattr(config, name)
        if not low <= high:
            raise KwsError(f"[{table}] {name} is [lowest, highest]. Received: {[low, high]}")
        if not lowest <= low <= high <= highest:
            raise KwsError(
                f"[{table}] {name} must lie between {lowest} and {highest}. Received: {[low, high]}"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """``[data]``: what the network learns from."""

    words: str | tuple[str, ...] = "twelve"
    """``"twelve"``, ``"thirty_five"`` (the sets of Speech Commands) or your own words."""
    head: str = "softmax"
    """``"softmax"`` for several words, ``"sigmoid"`` for one wake word."""
    clips: str | tuple[str, ...] = "speech_commands"
    """Folders of <label>/<clip>, in --data or among the fetched data sets."""
    generated: tuple[str, ...] = ()
    """More such folders, of synthesised clips. Since their number is arbitrary, ``generated_share``
    determines how many are used."""
    generated_share: float = 0.5
    """Share of generated clips among those of a word, and among other words, in an epoch; has an
    effect if there are both generated and recorded ones."""
    keyword_clips: int = 0
    """Clips of each keyword in an epoch: every recording at least once, then repeated with new
    variations up to this number; of generated ones, if there are more, others in each epoch. So the
    length of training does not depend on the number of clips. 0: every clip once."""
    speech: tuple[str, ...] = ()
    """Folders of running speech, cut into windows that are trained as ``_unknown_``."""
    unheard: tuple[str, ...] = ()
    """Other words that are kept out of training, so that validation and your own measurements show
    how well words never heard in training are rejected."""
    clip_ms: int = 1000
    """Length of a clip."""
    unknown_share: float = 0.2
    """Share of other words and running speech in an epoch. The default is 0.2 for five words or
    more, and 0.1 more for each word fewer: the network must not come to expect its words, and one
    that heard its only wake word in most clips triggers on any word. A share from the recipe's base
    rises likewise if there are fewer words than in the base."""
    silence_share: float = 0.08
    """Share of background noise without words in an epoch."""
    nonwords: int = 0
    """Number of nonwords, trained as ``_unknown_``: words played backwards, words spliced from
    pieces of words and, a third of them, word-length pieces of running speech."""
    stretch_share: float = 0.0
    """For each sequence of clips, this many more in which continuous running speech replaces some
    clips; useful with a ``stream_weight``."""
    silence_clips: int = 2000
    """Number of background cuts for training."""
    validation_silence_clips: int = 260
    """Number of background cuts for validation, from a part of each recording that is not trained
    on."""
    silence_dbfs: tuple[float, float] = (-60.0, -10.0)
    """RMS levels of the background cuts, from -120 to 0; training goes 15 dB lower as well."""

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders of clips, the generated ones last."""
        clips = (self.clips,) if isinstance(self.clips, str) else self.clips
        return clips + self.generated

    def __post_init__(self) -> None:
        if self.head not in ("softmax", "sigmoid"):
            raise KwsError(f'[data] head is "softmax" or "sigmoid". Received: {self.head!r}')
        _check_ranges(
            self,
            "data",
            clip_ms=(100, 10_000),
            unknown_share=(0.0, 0.9),
            silence_share=(0.0, 0.9),
            generated_share=(0.0, 1.0),
            keyword_clips=(0, 1_000_000),
            nonwords=(0, 1_000_000),
            stretch_share=(0.0, 10.0),
            silence_clips=(0, 1_000_000),
            validation_silence_clips=(0, 1_000_000),
        )
        if self.unknown_share + self.silence_share > 0.9:
            raise KwsError(
                "[data] unknown_share and silence_share leave too little for the words: their sum "
                f"must be at most 0.9. Received: {self.unknown_share} and {self.silence_share}"
            )
        _check_pairs(self, "data", silence_dbfs=(-120, 0))
        if not self.folders:
            raise KwsError("[data] clips must name folders to learn from. Received: none")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """``[model]``: the architecture and its sizes."""

    architecture: str = "conv_lstm"
    """A name in the zoo, `kws.models.ARCHITECTURES`."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """Its sizes; the others have the architecture's defaults."""

    def create(self) -> Architecture:
        """Return the architecture with these sizes."""
        return architecture_named(self.architecture)(**self.sizes)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """``[augment]``: how far clips are varied, anew each time they are used."""

    shift_ms: float = 100.0
    """Largest shift in time, in either direction."""
    speed: float = 0.15
    """Largest relative change of speed and pitch together, in either direction."""
    stretch_speed: float = 0.0
    """The same for stretches of running speech, which are then also cut at another place each
    time. 0: always the same cuts."""
    tract: float = 0.0
    """Largest relative change of the length of the vocal tract, in either direction: it shifts
    formants but not the timing."""
    gain_db: tuple[float, float] = (-15.0, 10.0)
    """Range of the change in level, within -60 to 60."""
    noise_share: float = 0.8
    """Share of the sequences that background noise is mixed into."""
    snr_db: tuple[float, float] = (0.0, 40.0)
    """Range of the ratio of the quietest speech in a sequence to the noise, both as RMS, within
    -100 to 100."""
    equaliser_db: float = 4.0
    """Standard deviation of each of four smooth curves over the mel filters, for the response of
    microphones and rooms."""
    room_share: float = 0.0
    """Share of the sequences with reverberation."""
    room_ms: tuple[float, float] = (150.0, 700.0)
    """Range of the reverberation time (a decay of 60 dB), within 1 to 10,000."""
    room_db: tuple[float, float] = (0.0, 15.0)
    """Range of the ratio of direct to reverberant sound, within -40 to 60."""
    time_masks: int = 0
    """Stretches of time masked in each clip (SpecAugment); networks as small as these learn less
    with them (docs/accuracy.md)."""
    time_mask_ms: float = 160.0
    """Longest such stretch."""
    mel_masks: int = 0
    """Bands of mel filters masked (SpecAugment)."""
    mel_mask_width: int = 6
    """Widest such band, in filters."""

    def __post_init__(self) -> None:
        _check_ranges(
            self,
            "augment",
            shift_ms=(0, 10_000),
            speed=(0, 0.5),
            stretch_speed=(0, 0.5),
            tract=(0, 0.5),
            noise_share=(0, 1),
            equaliser_db=(0, 60),
            room_share=(0, 1),
            time_masks=(0, 100),
            time_mask_ms=(0, 10_000),
            mel_masks=(0, 100),
            mel_mask_width=(0, 256),
        )
        _check_pairs(
            self,
            "augment",
            gain_db=(-60, 60),
            snr_db=(-100, 100),
            room_ms=(1, 10_000),
            room_db=(-40, 60),
        )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """``[training]``: how the network is trained."""

    epochs: int = 60
    """Passes over the training set."""
    batch_size: int = 256
    """Clips per step of the optimiser."""
    learning_rate: float = 5e-3
    """Highest learning rate, reached after the warm-up; from there cosine decay to zero."""
    warmup_epochs: float = 2.0
    """Epochs in which the learning rate rises from zero."""
    optimizer: str = "muon"
    """``"muon"`` for the matrices of a network and AdamW for the rest, or ``"adamw"`` for all."""
    weight_decay: float = 1e-2
    """Decoupled weight decay."""
    label_smoothing: float = 0.1
    """Share of the target spread over all labels."""
    gradient_clip: float = 1.0
    """Largest norm of all gradients together."""
    context_clips: int = 4
    """Clips in a row that the LSTM hears without a reset, so that it learns to forget. Networks
    that take whole clips need 1, which is then the default."""
    average_epochs: float = 0.0
    """Epochs over which the weights are averaged, as a moving average over the steps, though over
    at most a tenth of the training so far; the result is then this average. 0: no averaging."""
    teachers: tuple[str, ...] = ()
    """Networks with the same labels whose mean output is learnt as well as the right answer
    (distillation): folders of finished runs of any architecture and any features, or, as for
    ``start``, files and names of pretrained models."""
    teacher_weight: float = 2.0
    """Weight of the teachers' output relative to the right answer, which has weight 1."""
    start: str = ""
    """The network to start from: the folder of a run, a .tflite of this kit or the name of a
    pretrained model; empty to start from scratch. It must have the same [front_end] and [model]
    sizes."""
    unfreeze_epochs: float = 0.0
    """A network that starts from another trains its output layer first; after every this many
    epochs the next layer below is unfrozen."""
    stream_weight: float = 0.0
    """Weight of reporting a word from its end on, and of reporting nothing elsewhere, each relative
    to the answer at a clip's end, which has weight 1. Fewer false accepts in running speech at the
    cost of some accuracy on clips."""
    phone_weight: float = 0.0
    """Weight of recognising the phoneme at each step, relative to the answer at a clip's end, which
    has weight 1: learnt from English recordings whose words are known (``speech`` with
    transcripts.tsv, and ``clips`` labelled with their words). A network that knows phonemes is
    better at words with few examples. Not for networks that take whole clips."""

    def __post_init__(self) -> None:
        _check_ranges(
            self,
            "training",
            epochs=(1, 100_000),
            batch_size=(1, 65_536),
            learning_rate=(1e-9, 10.0),
            warmup_epochs=(0, 100_000),
            weight_decay=(0, 1),
            label_smoothing=(0.0, 0.9),
            gradient_clip=(1e-9, 1e9),
            context_clips=(1, 60),
            average_epochs=(0, 100_000),
            teacher_weight=(0.0, 100.0),
            unfreeze_epochs=(0, 100_000),
            stream_weight=(0.0, 100.0),
            phone_weight=(0.0, 100.0),
        )
        if self.optimizer not in ("muon", "adamw"):
            raise KwsError(
                f'[training] optimizer is "muon" or "adamw". Received: {self.optimizer!r}'
            )
        if self.batch_size % self.context_clips:
            raise KwsError(
                "[training] batch_size must be a multiple of context_clips. "
                f"Received: {self.batch_size} and {self.context_clips}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Everything that `kws train` needs."""

    name: str
    """Name of the model and of its files."""
    license: str = "Apache-2.0"
    """Licence of the resulting model (SPDX)."""
    description: str = ""
    """One line for the reader."""
    seed: int = 1
    """Seed of all random numbers."""
    data: DataConfig = field(default_factory=DataConfig)
    """What it learns from."""
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    """How sound becomes MFCC."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How clips are varied in training."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How it is trained."""
    decision: DecisionConfig = field(default_factory=lambda: DecisionConfig(thresholds={}))
    """How posteriors become events; written into the model file. In a recipe, ``threshold`` is for
    all keywords and ``thresholds`` for individual ones; `kws calibrate --wake` chooses
    ``after_wake``."""

    def __post_init__(self) -> None:
        _check_ranges(self, "", seed=(0, LARGEST_SEED))
        for what, text in (("name", self.name), ("license", self.license)):
            if not 1 <= len(text) <= 200 or not text.isprintable():
                raise KwsError(f"{what} must be 1 to 200 printable characters. Received: {text!r}")
        if self.name.startswith(".") or any(c in self.name for c in "/\\"):
            raise KwsError(
                "name is used for file names: it must have no slashes and not start with a dot. "
                f"Received: {self.name!r}"
            )
        if self.front_end.sample_rate_hz != SAMPLE_RATE_HZ:
            raise KwsError(
                f"[front_end] sample_rate_hz must be {SAMPLE_RATE_HZ}: recordings of other rates "
                f"are resampled to it. Received: {self.front_end.sample_rate_hz}"
            )

        keywords = set(map(folded, self.labels.keywords))
        heard = sorted(word for word in set(self.data.unheard) if folded(word) in keywords)
        if heard:
            raise KwsError(
                "[data] unheard must not name keywords, which are needed in training. "
                f"Received: {', '.join(heard)}. Write unheard without them"
            )

    @property
    def labels(self) -> LabelSet:
        """The network's outputs."""
        words = self.data.words
        if self.data.head == "sigmoid":
            if isinstance(words, str) or len(words) != 1:
                raise KwsError(
                    'A sigmoid head detects one word: write words = ["yourword"], or use '
                    f'head = "softmax". Received: {words!r}'
                )
            return LabelSet.wake_word(words[0])
        if words == "twelve":
            return LabelSet.twelve()
        if words == "thirty_five":
            return LabelSet.thirty_five()
        if isinstance(words, str):
            raise KwsError(
                f'words must be "twelve", "thirty_five" or a list of words. Received: {words!r}'
            )
        return LabelSet.own(words)

    @property
    def learns_phones(self) -> bool:
        """Whether phonemes are learnt as well as the words."""
        return self.training.phone_weight > 0 and not self.model.create().whole_clip

    @property
    def clip_samples(self) -> int:
        """Samples in a clip."""
        return self.data.clip_ms * self.front_end.sample_rate_hz // 1000

    @property
    def clip_frames(self) -> int:
        """Frames in a clip."""
        return self.front_end.n_frames(self.clip_samples)

    @property
    def receptive_field_frames(self) -> int:
        """Frames that one step of the network looks at: a whole clip if it takes whole clips."""
        network = self.model.create()
        return self.clip_frames if network.whole_clip else network.receptive_field_frames

    @property
    def stride_frames(self) -> int:
        """New frames per step; for a network that takes whole clips, the hop between windows of
        longer audio."""
        network = self.model.create()
        return max(1, self.clip_frames // 10) if network.whole_clip else network.stride_frames

    def build_network(
        self,
        keras: Any,
        *,
        frames: int | None = None,
        batch_size: int | None = None,
        folded: bool = False,
    ) -> Any:
        """Build the recipe's network; arguments as in `kws.models.Architecture.build`.

        Raises:
            KwsError: a layer is larger than its input.
        """
        network, n_features = self.model.create(), self.front_end.n_features
        try:
            return network.build(
                keras,
                n_features=n_features,
                n_labels=len(self.labels.labels),
                head=self.data.head,
                frames=self.clip_frames if network.whole_clip else frames,
                batch_size=batch_size,
                folded=folded,
            )
        except ValueError as error:
            raise KwsError(
                f"[model] {network.name} has a layer that is larger than its input. "
                f"Received: clips of {self.clip_frames} frames with {n_features} features. "
                "Use longer clips, more features or smaller kernels"
            ) from error
