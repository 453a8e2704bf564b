"""What a recipe says, as frozen dataclasses: one for each table of the file, with every default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kws.audio.samples import SAMPLE_RATE_HZ
from kws.data.labels import LabelSet
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.models import Architecture, architecture_named

LARGEST_SEED = 40_000_000
"""Seeds are numbers of 32 bits, and a hundred of them belong to each seed of a recipe."""


def _check_ranges(config: Any, table: str, **limits: tuple[float, float]) -> None:
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            where = f"[{table}] {name}" if table else name
            raise KwsError(f"{where} must lie between {low} and {high}. Received: {value}")


def _check_pairs(config: Any, table: str, *names: str) -> None:
    for name in names:
        low, high = getattr(config, name)
        if not low <= high:
            raise KwsError(f"[{table}] {name} is [lowest, highest]. Received: {[low, high]}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """``[data]``: what the network learns from."""

    words: str | tuple[str, ...] = "twelve"
    """``"twelve"``, ``"thirty_five"`` (the sets of Speech Commands) or your own words."""
    head: str = "softmax"
    """``"softmax"`` for several words, ``"sigmoid"`` for one wake word."""
    clips: str | tuple[str, ...] = "speech_commands"
    """Folders of <label>/<clip>, below --data or among the fetched data sets."""
    generated: tuple[str, ...] = ()
    """More such folders, whose clips a synthesiser spoke. There is no end of them, so they are
    dealt out by ``generated_share`` and not by their number."""
    generated_share: float = 0.5
    """Share of generated clips among those of a word, and among other words, in an epoch; of use
    where there are both generated and recorded ones."""
    keyword_clips: int = 0
    """Clips of each keyword in an epoch: recordings all at least once and again, varied anew, until
    there are so many; of generated ones, where there are more, others in each epoch. So the length
    of training does not hang on how many there happen to be. 0: every clip once."""
    speech: tuple[str, ...] = ()
    """Folders of running speech, cut into windows that are taught as ``_unknown_``."""
    unheard: tuple[str, ...] = ()
    """Other words that are kept out of training, so that validation and your own measurements say
    how words are rejected that the network never heard."""
    clip_ms: int = 1000
    """Length of a clip."""
    unknown_share: float = 0.2
    """Share of an epoch that is other words and running speech. A recipe that does not say gets
    0.2 for five words or more, and 0.1 more for each word fewer: the network must not come to
    expect its words, and one that heard a single wake word in most clips fires at any word."""
    silence_share: float = 0.08
    """Share of an epoch that is background noise without a word."""
    nonwords: int = 0
    """Words made of pieces of words, words played backwards and, a third, pieces of running speech
    as long as words; taught as ``_unknown_``."""
    stretch_share: float = 0.0
    """Sequences in which uncut running speech takes the place of some clips, for each sequence of
    clips; of use with a ``stream_weight``."""
    silence_clips: int = 2000
    """Background cuts made for training."""
    validation_silence_clips: int = 260
    """Background cuts for validation, from a part of each recording that is never trained on."""
    silence_dbfs: tuple[float, float] = (-60.0, -10.0)
    """RMS levels of the background cuts; training goes 15 dB lower as well."""

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
                "[data] unknown_share and silence_share leave too little for the words: together "
                f"they may be 0.9. Received: {self.unknown_share} and {self.silence_share}"
            )
        _check_pairs(self, "data", "silence_dbfs")
        if not self.folders:
            raise KwsError("[data] clips names the folders to learn from. Received: none")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """``[model]``: the architecture and, beside its name, its sizes."""

    architecture: str = "conv_lstm"
    """A name in the zoo, `kws.models.ARCHITECTURES`."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """Its sizes; those left out have the architecture's defaults."""

    def create(self) -> Architecture:
        """Return the architecture with these sizes."""
        return architecture_named(self.architecture)(**self.sizes)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """``[augment]``: how far clips are varied, anew each time they are heard."""

    shift_ms: float = 100.0
    """Largest shift in time, either way."""
    speed: float = 0.15
    """Largest change of speed and pitch together, as a share, either way."""
    stretch_speed: float = 0.0
    """The same for stretches of running speech, which are then also cut at another place each time
    they are heard. 0: always the same cuts."""
    tract: float = 0.0
    """Largest change of the length of the vocal tract, as a share, either way: it moves formants
    and not the timing."""
    gain_db: tuple[float, float] = (-15.0, 10.0)
    """Range of the change in level."""
    noise_share: float = 0.8
    """Share of the stretches of audio that background noise is mixed into."""
    snr_db: tuple[float, float] = (0.0, 40.0)
    """Range of the ratio of the quietest speech in a stretch to noise, both as RMS."""
    equaliser_db: float = 4.0
    """Standard deviation of each of four smooth curves over the mel filters: microphones, rooms."""
    room_share: float = 0.0
    """Share of the stretches of audio that sound as if spoken in a room."""
    room_ms: tuple[float, float] = (150.0, 700.0)
    """Range of the time in which the room's sound falls by 60 dB."""
    room_db: tuple[float, float] = (0.0, 15.0)
    """Range of the ratio of direct sound to the room's."""
    time_masks: int = 0
    """Stretches that are blanked in each clip (SpecAugment); networks as small as these learn less
    with them (docs/accuracy.md)."""
    time_mask_ms: float = 160.0
    """Longest such stretch."""
    mel_masks: int = 0
    """Bands of mel filters that are blanked (SpecAugment)."""
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
        _check_pairs(self, "augment", "gain_db", "snr_db", "room_ms", "room_db")
        if self.room_ms[0] <= 0:
            raise KwsError(f"[augment] room_ms must be above 0. Received: {list(self.room_ms)}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """``[training]``: how the weights are found."""

    epochs: int = 60
    """Passes over the training set."""
    batch_size: int = 256
    """Clips for one step of the optimiser."""
    learning_rate: float = 5e-3
    """Highest learning rate, reached after the warm-up; then it falls as a cosine to zero."""
    warmup_epochs: float = 2.0
    """Epochs in which the learning rate rises from zero."""
    optimizer: str = "muon"
    """``"muon"`` for the matrices of a network with AdamW for the rest, or ``"adamw"`` for all."""
    weight_decay: float = 1e-2
    """Decoupled weight decay."""
    label_smoothing: float = 0.1
    """Share of the target spread over all labels."""
    gradient_clip: float = 1.0
    """Largest norm of all gradients together."""
    context_clips: int = 4
    """Clips in a row that the LSTM hears without a reset, so that it learns to forget. For a
    network that takes whole clips it is 1, and a recipe that does not say gets that."""
    average_epochs: float = 0.0
    """Epochs over which the weights are averaged, as a moving mean over the steps, though over no
    more than a tenth of the training so far; the result is then this average. 0 for the weights as
    they are."""
    teachers: tuple[str, ...] = ()
    """Networks with the same front end and labels, whose mean answer is learnt beside the right
    one: folders of finished runs of any architecture, or as for ``start`` files and names of
    pretrained models."""
    teacher_weight: float = 2.0
    """How much the teachers' answer counts beside the right one, which counts 1."""
    start: str = ""
    """The network to start from: a run's folder, a .tflite of this kit or the name of a pretrained
    model; nothing to start from nothing. It must have the same [front_end] and [model] sizes."""
    unfreeze_epochs: float = 0.0
    """A network that starts from another trains its answers first; each so many epochs the next
    layer below joins in."""
    stream_weight: float = 0.0
    """How much it counts that a word is named from its end on, and that nothing is where none
    ended, each beside the answer at a clip's end, which counts 1. Fewer false accepts in running
    speech, for some accuracy on clips."""
    phone_weight: float = 0.0
    """How much it counts which sound of speech is heard at each step, beside the answer at a clip's
    end, which counts 1: learnt from recordings of English whose words are known (``speech`` with
    transcripts.tsv, and ``clips`` named by what they say). A network that knows the sounds tells
    words better that it has few examples of. Not for networks that take whole clips."""

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
    """All that `kws train` needs to know, and all that a model file later says of its making."""

    name: str
    """Name of the model, and of its files."""
    license: str = "Apache-2.0"
    """Licence of the resulting model (SPDX)."""
    description: str = ""
    """A line for the reader."""
    seed: int = 1
    """Seed of everything random."""
    data: DataConfig = field(default_factory=DataConfig)
    """What it learns from."""
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    """How sound becomes MFCC."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How clips are varied in training."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How the weights are found."""
    decision: DecisionConfig = field(default_factory=lambda: DecisionConfig(thresholds={}))
    """How posteriors become events; written into the model file. In the file, ``threshold`` is
    for all keywords and ``thresholds`` for those that differ."""

    def __post_init__(self) -> None:
        _check_ranges(self, "", seed=(0, LARGEST_SEED))
        for what, text in (("name", self.name), ("license", self.license)):
            if not 1 <= len(text) <= 200 or not text.isprintable():
                raise KwsError(f"{what} must be 1 to 200 printable characters. Received: {text!r}")
        if self.name.startswith(".") or any(c in self.name for c in "/\\"):
            raise KwsError(
                f"name becomes the name of files: no slashes, no dot first. Received: {self.name!r}"
            )
        if self.front_end.sample_rate_hz != SAMPLE_RATE_HZ:
            raise KwsError(
                f"[front_end] sample_rate_hz must be {SAMPLE_RATE_HZ}: recordings of other rates "
                f"are resampled to it. Received: {self.front_end.sample_rate_hz}"
            )

        heard = sorted(set(self.data.unheard) & set(self.labels.keywords))
        if heard:
            raise KwsError(
                "[data] unheard names other words; keywords must be heard. "
                f"Received: {', '.join(heard)}"
            )

    @property
    def labels(self) -> LabelSet:
        """The network's outputs."""
        words = self.data.words
        if self.data.head == "sigmoid":
            if isinstance(words, str) or len(words) != 1:
                raise KwsError(
                    'A sigmoid head spots one word: write words = ["yourword"], or use '
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
        """Whether the sounds of speech are learnt beside the words."""
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
        """Frames that one step of the network looks at: all of a clip if it takes whole clips."""
        network = self.model.create()
        return self.clip_frames if network.whole_clip else network.receptive_field_frames

    @property
    def stride_frames(self) -> int:
        """New frames for each step; for a network that takes whole clips, how far windows lie apart
        where it is asked about something longer."""
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
            KwsError: a layer of it is larger than what reaches it.
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
                f"[model] {network.name} has a layer that is larger than what reaches it. "
                f"Received: clips of {self.clip_frames} frames with {n_features} features. "
                "Use longer clips, more features or smaller kernels"
            ) from error
