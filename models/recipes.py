"""Named complete configurations. A run is one of these functions; nothing is set anywhere else.

Knows no tensors, so that reading a recipe costs nothing.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

Task = Literal["search", "recommendation"]
TASKS: tuple[Task, ...] = ("search", "recommendation")


# What a ranker sees of a note's cover: its own, none, or that of another note, as a control.
SeenCovers = Literal["own", "none", "shuffled"]


@dataclass(frozen=True, kw_only=True)
class BM25Recipe:
    """Weights of `models.bm25.BM25Index`, at the defaults of the package rank-bm25."""

    name: str
    task: Task
    # How soon more of the same word counts no more.
    k1: float = 1.5
    # How much long notes are held back: 0 not at all, 1 in proportion to their length.
    b: float = 0.75
    # What a word of most notes weighs, as a share of the mean weight.
    epsilon: float = 0.25


@dataclass(frozen=True, kw_only=True)
class DCNV2Architecture:
    """What `models.dcn_v2.DCNV2` looks like, apart from the sizes that come from the data."""

    # Numbers that stand for one id.
    embedding_dim: int = 16
    # Layers that multiply features with each other.
    n_cross: int = 3
    # matrix: full (eq. 1); low_rank: a product of two thin matrices (eq. 2); mixture: several of
    # them, gated (eq. 3). The last two pay where the input is wide.
    cross: Literal["matrix", "low_rank", "mixture"] = "matrix"
    # Width of the thin matrices of low_rank and mixture.
    cross_rank: int = 64
    # Gated products of a mixture.
    n_experts: int = 4
    # Widths of the deep tower's layers.
    hidden: tuple[int, ...] = (256, 128)
    # parallel: crosses and tower side by side; stacked: the tower on top of the crosses.
    structure: Literal["parallel", "stacked"] = "parallel"
    # Share of the tower's numbers left out of each training step.
    dropout: float = 0.1
    # Share of categories shown as unknown while training, so that the model can do without them:
    # many of the test rows never occur in the training rows.
    field_unknown_rate: float = 0.05
    # The same of notes, most of which never occur there.
    note_unknown_rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class PositionCorrection:
    """How training allows for upper places being clicked more (`models.losses`)."""

    # ips: a click counts by one over the examination of its place. doubly_robust: the same on what
    # the mean attraction of the place does not explain. affine: the same less the clicks that the
    # place gets whatever stands there. position_input: the place is an input that scoring leaves
    # out. dual_learning: examination is learnt along with the ranking.
    method: Literal["ips", "doubly_robust", "affine", "position_input", "dual_learning"] = "ips"
    # Examination below this counts as this: a rare click far down must not decide.
    clip: float = 0.1
    # With the listwise loss: weights of a request sum to 1.
    self_normalised: bool = True
    # Of position_input: share of batches in which the place is not told.
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.method == "affine" and self.self_normalised:
            raise ValueError(
                "affine corrections count what is not clicked below 0, so those of a request may "
                "sum to nothing to divide by: set self_normalised to False"
            )


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `models.loop.train` does; one seed decides weights, order and dropout."""

    # pointwise: each candidate by itself; listwise: the candidates of a request against each other.
    loss: Literal["pointwise", "listwise"] = "listwise"
    # None: clicks count as they are.
    correction: PositionCorrection | None = None
    seed: int = 7
    # Passes over the training requests at most.
    max_epochs: int = 30
    # Epochs without a better validation metric before training stops.
    patience: int = 4
    # Small enough for a few steps an epoch on a thousandth of the log; a GPU takes more.
    candidates_per_batch: int = 1024
    # Batches whose gradients are added before a step: a larger batch in less memory.
    batches_per_update: int = 1
    # Step of all weights but those of tables.
    learning_rate: float = 1e-3
    # Of tables with a row per note, whose rows are met at very different rates.
    table_learning_rate: float = 5e-2
    # Updates over which the learning rates rise to their full value.
    warmup_updates: int = 0
    # Pull of every weight towards 0.
    weight_decay: float = 1e-5
    # Longer gradients are shortened to this.
    gradient_clip: float = 1.0
    # bf16: products in half precision, weights in full; for GPUs.
    precision: Literal["fp32", "bf16"] = "fp32"
    # Fewer requests than these, with both clicked and unclicked notes, are not worth a model.
    min_fit_requests: int = 50
    # The same of those on which the epoch is chosen.
    min_validation_requests: int = 10

    def cut_for(self, n_processes: int) -> "Training":
        """The same updates in so many times as many batches, one for each process to take.

        What is learnt depends on this number and not on the processes that there are. Notes of
        the same batch that serve as negatives become fewer.
        """
        return replace(
            self,
            candidates_per_batch=max(1, self.candidates_per_batch // n_processes),
            batches_per_update=self.batches_per_update * n_processes,
        )


@dataclass(frozen=True, kw_only=True)
class DCNV2Recipe:
    name: str
    task: Task
    # Crosses, tower and embeddings.
    architecture: DCNV2Architecture = DCNV2Architecture()
    # What the covers look like, among the dense inputs; nothing where there are no images.
    covers: SeenCovers = "none"
    # How it is trained.
    training: Training = Training()


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A BERT over tokens of queries and notes."""

    # A local folder or a name of the hub that this machine has; None builds a new one of the sizes
    # below.
    checkpoint: str | None = None
    # Layers of attention.
    n_layers: int = 2
    # Numbers that stand for one token; a multiple of the heads.
    width: int = 64
    # Heads of attention.
    n_heads: int = 2
    # Share of numbers left out of each training step.
    dropout: float = 0.1
    # Longer queries lose their end: of the titles of recent clicks, the oldest.
    max_query_tokens: int = 24
    # Longer notes lose their end.
    max_note_tokens: int = 48


@dataclass(frozen=True, kw_only=True)
class BiEncoderRecipe:
    """`models.bi_encoder`: one encoder for queries and notes, compared by their angle."""

    name: str
    task: Task
    # The BERT.
    encoder: Encoder = Encoder()
    # A text is the mean of its tokens, or the first of them.
    pooling: Literal["mean", "cls"] = "mean"
    # Cosines are divided by it; learned from this value on, or fixed.
    temperature: float = 0.05
    # Whether it is learned.
    learns_temperature: bool = True
    # Notes shown and not clicked, of each request and epoch.
    exposed_negatives: int = 4
    # Notes that BM25 finds among all, of each request and epoch.
    bm25_negatives: int = 1
    # They are drawn from this place of BM25's list on: the very best answer the query as a rule,
    # clicked or not.
    bm25_from: int = 10
    # Up to this place.
    bm25_to: int = 60
    # What the covers look like, added to the notes' embeddings; nothing where there are no images.
    covers: SeenCovers = "none"
    # Candidates are ranked by a weighted sum of what the encoder says and of what can be counted:
    # BM25 and other matches, what the note's words tell of its clicks, what it is made of. What
    # finds notes among all is the encoder alone.
    interpolates: bool = True
    # How it is trained.
    training: Training = Training()


@dataclass(frozen=True, kw_only=True)
class CrossEncoderRecipe:
    """`models.cross_encoder`: query and note read together, scored by a head on [CLS]."""

    name: str
    task: Task
    # The BERT.
    encoder: Encoder = Encoder()
    # Longer lists of exposures are drawn from, anew in each epoch.
    list_size: int = 6
    # Notes shown in other requests, added to each list.
    other_negatives: int = 2
    # Tells the encoder which tokens of the note stand in the query, too (Boualili et al. 2020): one
    # that was never pre-trained finds that out too slowly. A checkpoint has no input for it.
    marks_matches: bool = True
    # As in the bi-encoder: ranked by a weighted sum with what can be counted.
    interpolates: bool = True
    # How it is trained.
    training: Training = Training()


@dataclass(frozen=True, kw_only=True)
class VisionLanguage:
    """A Qwen-VL over query, cover and note."""

    # A local folder or a name of the hub that this machine has, of Qwen2-VL, Qwen2.5-VL or
    # Qwen3-VL; None builds a new Qwen2-VL of the sizes below.
    checkpoint: str | None = None
    # Layers of attention over words and covers.
    n_layers: int = 2
    # Numbers that stand for one token; a multiple of the heads.
    width: int = 64
    # Heads of attention.
    n_heads: int = 2
    # Layers of attention of the part that looks at covers.
    vision_layers: int = 1
    # Numbers that stand for one patch of a cover.
    vision_width: int = 32
    # Heads of attention over patches.
    vision_heads: int = 2
    # The state that is scored: of the last token, or the mean of all.
    pooling: Literal["last", "mean"] = "last"
    # What the model is asked to do, in words; one that was never pre-trained does not read it.
    instruction: str = ""
    # Longer queries lose their end; instruction and query are never cut for a long note.
    max_query_tokens: int = 24
    # Longer notes lose their end.
    max_note_tokens: int = 48
    # A cover is scaled to so many tokens at most, its proportions kept; without one there are none.
    max_image_tokens: int = 4
    # As in the cross-encoder: tells a new model which tokens of the note stand in the query.
    marks_matches: bool = True


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank matrices beside the attention of the language layers, all else left as it was."""

    # Width of the two matrices.
    rank: int = 16
    # Their product counts alpha / rank times.
    alpha: int = 32
    # Share of inputs left out of each training step.
    dropout: float = 0.05
    # Where the machine can: the frozen weights in four bits (NF4, quantised twice), else bfloat16.
    quantizes: bool = True


@dataclass(frozen=True, kw_only=True)
class VLMRecipe:
    """`models.vlm`: query, cover and note read together by a Qwen-VL, scored by a head."""

    name: str
    task: Task
    # The Qwen-VL.
    model: VisionLanguage = VisionLanguage()
    # None trains every weight.
    adapter: LoRA | None = None
    covers: SeenCovers = "own"
    reads_text: bool = True
    # As in the cross-encoder: longer lists of exposures are drawn from, anew in each epoch.
    list_size: int = 6
    # Notes shown in other requests, added to each list.
    other_negatives: int = 0
    # How it is trained.
    training: Training = Training()


Recipe = BM25Recipe | BiEncoderRecipe | CrossEncoderRecipe | DCNV2Recipe | VLMRecipe
TextRecipe = BiEncoderRecipe | CrossEncoderRecipe
TrainedRecipe = TypeVar(
    "TrainedRecipe", BiEncoderRecipe, CrossEncoderRecipe, DCNV2Recipe, VLMRecipe
)


# What a checkpoint was trained with, and what fine-tuning it takes.
_CHECKPOINT_TOKENS = {"search": 64, "recommendation": 128}


def from_checkpoint(recipe: TextRecipe, checkpoint: str) -> TextRecipe:
    """The recipe on a checkpoint: its sizes, longer texts, and a training that does not forget."""
    encoder = Encoder(
        checkpoint=checkpoint,
        max_query_tokens=_CHECKPOINT_TOKENS[recipe.task],
        max_note_tokens=256,
    )
    training = replace(
        recipe.training, learning_rate=3e-5, warmup_updates=500, max_epochs=3, precision="bf16"
    )
    if isinstance(recipe, CrossEncoderRecipe):
        return replace(recipe, encoder=encoder, training=training, marks_matches=False)
    return replace(recipe, encoder=encoder, training=training)


def vlm_from_checkpoint(recipe: VLMRecipe, checkpoint: str) -> VLMRecipe:
    """The recipe on a Qwen-VL: its sizes, longer texts, larger covers, and LoRA."""
    model = replace(
        VisionLanguage(),
        checkpoint=checkpoint,
        pooling=recipe.model.pooling,
        instruction="判断用户会不会点开这条笔记。",
        max_query_tokens=_CHECKPOINT_TOKENS[recipe.task],
        max_note_tokens=384,
        max_image_tokens=100,
        marks_matches=False,
    )
    training = replace(
        recipe.training,
        learning_rate=1e-4,
        warmup_updates=100,
        max_epochs=2,
        candidates_per_batch=24,
        batches_per_update=4,
        precision="bf16",
    )
    return replace(recipe, model=model, adapter=LoRA(), training=training)


_TEXT_TRAINING = Training(
    max_epochs=6,
    patience=2,
    candidates_per_batch=256,
    learning_rate=1e-3,
    warmup_updates=20,
    weight_decay=0.01,
)
# Smaller batches for more steps: an encoder that reads pairs has more to find out.
_PAIR_TRAINING = replace(_TEXT_TRAINING, max_epochs=4, candidates_per_batch=128, learning_rate=2e-3)
# At twice this rate a new vision tower learns nothing, and the rest less than it could.
_VLM_TRAINING = replace(_PAIR_TRAINING, candidates_per_batch=96, learning_rate=5e-4)
_SMOKE_VLM = VisionLanguage(
    n_layers=1, width=32, vision_width=16, max_query_tokens=12, max_note_tokens=12
)
_SMOKE_ENCODER = Encoder(n_layers=1, width=32, max_query_tokens=16, max_note_tokens=24)
_SMOKE_TEXT_TRAINING = replace(_TEXT_TRAINING, max_epochs=3, learning_rate=3e-3)


def bm25_search() -> BM25Recipe:
    """The query's words against title and body."""
    return BM25Recipe(name="bm25_search", task="search")


def bm25_search_smoke() -> BM25Recipe:
    """As `bm25_search`: it has nothing to shorten."""
    return replace(bm25_search(), name="bm25_search_smoke")


def bm25_recommendation() -> BM25Recipe:
    """The words of recently clicked titles, in place of a query, against title and body."""
    return BM25Recipe(name="bm25_recommendation", task="recommendation")


def bm25_recommendation_smoke() -> BM25Recipe:
    """As `bm25_recommendation`: it has nothing to shorten."""
    return replace(bm25_recommendation(), name="bm25_recommendation_smoke")


def bi_encoder_search() -> BiEncoderRecipe:
    """The query beside the note; finds notes among all, too."""
    return BiEncoderRecipe(name="bi_encoder_search", task="search", training=_TEXT_TRAINING)


def bi_encoder_search_smoke() -> BiEncoderRecipe:
    """`bi_encoder_search` at a size that trains on one CPU core in seconds."""
    return replace(
        bi_encoder_search(),
        name="bi_encoder_search_smoke",
        encoder=_SMOKE_ENCODER,
        training=_SMOKE_TEXT_TRAINING,
    )


def bi_encoder_recommendation() -> BiEncoderRecipe:
    """The titles of recent clicks, in place of a query, beside the note."""
    return BiEncoderRecipe(
        name="bi_encoder_recommendation",
        task="recommendation",
        # A dozen titles: what somebody likes shows in many clicks.
        encoder=Encoder(max_query_tokens=192),
        training=replace(_TEXT_TRAINING, learning_rate=2e-3),
    )


def bi_encoder_recommendation_smoke() -> BiEncoderRecipe:
    """`bi_encoder_recommendation` at a size that trains on one CPU core in seconds."""
    return replace(
        bi_encoder_recommendation(),
        name="bi_encoder_recommendation_smoke",
        encoder=_SMOKE_ENCODER,
        training=_SMOKE_TEXT_TRAINING,
    )


def cross_encoder_search() -> CrossEncoderRecipe:
    """Query and note read together, the exposures of a search against each other."""
    return CrossEncoderRecipe(name="cross_encoder_search", task="search", training=_PAIR_TRAINING)


def cross_encoder_search_smoke() -> CrossEncoderRecipe:
    """`cross_encoder_search` at a size that trains on one CPU core in seconds."""
    return replace(
        cross_encoder_search(),
        name="cross_encoder_search_smoke",
        encoder=_SMOKE_ENCODER,
        training=_SMOKE_TEXT_TRAINING,
    )


def cross_encoder_recommendation() -> CrossEncoderRecipe:
    """Titles of recent clicks and note read together, a feed page's exposures compared."""
    return CrossEncoderRecipe(
        name="cross_encoder_recommendation",
        task="recommendation",
        encoder=Encoder(max_query_tokens=96),
        list_size=4,
        other_negatives=1,
        training=_PAIR_TRAINING,
    )


def cross_encoder_recommendation_smoke() -> CrossEncoderRecipe:
    """`cross_encoder_recommendation` at a size that trains on one CPU core in seconds."""
    return replace(
        cross_encoder_recommendation(),
        name="cross_encoder_recommendation_smoke",
        encoder=_SMOKE_ENCODER,
        training=_SMOKE_TEXT_TRAINING,
    )


def vlm_search() -> VLMRecipe:
    """Query, cover and note read together, the exposures of a search against each other."""
    return VLMRecipe(name="vlm_search", task="search", training=_VLM_TRAINING)


def vlm_search_smoke() -> VLMRecipe:
    """`vlm_search` at a size that trains on one CPU core in seconds."""
    return replace(
        vlm_search(), name="vlm_search_smoke", model=_SMOKE_VLM, training=_SMOKE_TEXT_TRAINING
    )


def vlm_recommendation() -> VLMRecipe:
    """Titles of recent clicks, cover and note read together, a feed page's exposures compared."""
    return VLMRecipe(
        name="vlm_recommendation",
        task="recommendation",
        model=VisionLanguage(max_query_tokens=96),
        list_size=4,
        training=_VLM_TRAINING,
    )


def vlm_recommendation_smoke() -> VLMRecipe:
    """`vlm_recommendation` at a size that trains on one CPU core in seconds."""
    return replace(
        vlm_recommendation(),
        name="vlm_recommendation_smoke",
        model=_SMOKE_VLM,
        training=_SMOKE_TEXT_TRAINING,
    )


def dcn_v2_search() -> DCNV2Recipe:
    """All exposures of a search against each other."""
    return DCNV2Recipe(name="dcn_v2_search", task="search")


def dcn_v2_search_smoke() -> DCNV2Recipe:
    """`dcn_v2_search` at a size that trains on one CPU core in seconds."""
    return replace(_smoke(dcn_v2_search()), name="dcn_v2_search_smoke")


def dcn_v2_recommendation() -> DCNV2Recipe:
    """All exposures of a feed page against each other."""
    return DCNV2Recipe(name="dcn_v2_recommendation", task="recommendation")


def dcn_v2_recommendation_smoke() -> DCNV2Recipe:
    """`dcn_v2_recommendation` at a size that trains on one CPU core in seconds."""
    return replace(_smoke(dcn_v2_recommendation()), name="dcn_v2_recommendation_smoke")


def corrected(recipe: TrainedRecipe, correction: PositionCorrection) -> TrainedRecipe:
    """The recipe, trained with a correction for position, and named after it.

    Text rankers take `IPS` and `DOUBLY_ROBUST`. They learn from a click or two of each request at a
    time, so their weights are normalised over the batch and not within a request.
    """
    if not isinstance(recipe, DCNV2Recipe):
        correction = replace(correction, self_normalised=False)
    return replace(
        recipe,
        name=recipe.name.replace(f"_{recipe.task}", f"_{correction.method}_{recipe.task}"),
        training=replace(recipe.training, correction=correction),
    )


# Complete corrections, for `corrected`.
IPS = PositionCorrection(method="ips")
# What it fills in, its clip takes away: it can be clipped early.
DOUBLY_ROBUST = PositionCorrection(method="doubly_robust", clip=0.5)
AFFINE = PositionCorrection(method="affine", self_normalised=False)
POSITION_INPUT = PositionCorrection(method="position_input")
DUAL_LEARNING = PositionCorrection(method="dual_learning")


def _smoke(recipe: DCNV2Recipe) -> DCNV2Recipe:
    return replace(
        recipe,
        architecture=replace(recipe.architecture, embedding_dim=8, n_cross=2, hidden=(32,)),
        training=replace(recipe.training, max_epochs=6, patience=2, learning_rate=5e-3),
    )
