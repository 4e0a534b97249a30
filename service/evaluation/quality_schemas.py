"""What data sets, and reports about items, look like on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.evaluation.schemas import SuiteItemOut
from service.shapes import Reply
from service.store.tables import RowSet, Run

Share = Field(description="Jaccard similarity of the two texts' sets of five-character substrings, exact.")


class DatasetOut(Reply):
    id: str
    name: str
    version: int
    hash: str = Field(description="SHA-256 of the rows, in their order.")
    data_hash: str | None = Field(description="What runs trained on the whole file have as `data_hash`.")
    source: str | None = Field(description="The file's name, as the client gave it.")
    n_items: int
    created_at: float

    @classmethod
    def of(cls, row_set: RowSet) -> DatasetOut:
        return cls.model_validate(row_set.model_dump(exclude={"items_sha256"}))


class TrainedRun(Reply):
    id: str
    name: str
    status: str
    created_at: float

    @classmethod
    def of(cls, run: Run) -> TrainedRun:
        return cls.model_validate(run, from_attributes=True)


class DatasetDetail(DatasetOut):
    runs: list[TrainedRun] = Field(description="The newest runs with its `data_hash`, 100 at most.")


class DatasetPage(Reply):
    items: list[DatasetOut]
    next_cursor: str | None


class DatasetItemPage(Reply):
    items: list[SuiteItemOut]
    next_cursor: str | None


class Warned(Reply):
    code: str
    message: str


class LabelCount(Reply):
    label: str
    n: int


class BalanceOut(Reply):
    n_labels: int
    unlabelled: int
    without: int = Field(0, description="Multi-label items that are said to have no label.")
    per_item: float | None = Field(None, description="Labels an item on average; null where items are not multi-label.")
    ratio: float | None = Field(description="Items of the most frequent label for one of the rarest.")
    evenness: float | None = Field(description="Entropy of the labels over its maximum: 1 when all are as frequent.")
    reason: str | None
    labels: list[LabelCount] = Field(
        description="Items that have it, most frequent first, 1,000 at most; a multi-label item counts for each."
    )


class LengthsOut(Reply):
    n: int
    mean: float
    quantiles: dict[str, int] = Field(description="Characters: min, p5, median, p95, p99, max.")
    edges: list[int]
    counts: list[int] = Field(description="Texts from each edge up to, and without, the next.")


class ShownItem(Reply):
    id: str
    input: str = Field(description="The first 1,000 characters.")
    answer: str | None = Field(description="The label or labels, or the first reference, up to 1,000 characters.")


class RepeatedText(Reply):
    n: int
    conflicting: bool = Field(description="Its items have different answers.")
    items: list[ShownItem] = Field(description="The first ten.")


class DuplicatesOut(Reply):
    n_groups: int
    n_extra: int = Field(description="Items that repeat one before them.")
    n_conflicting: int
    groups: list[RepeatedText] = Field(description="Conflicting ones first, then the largest; 100 at most.")


class SimilarPair(Reply):
    similarity: float = Share
    first: ShownItem
    second: ShownItem


class NearDuplicatesOut(Reply):
    threshold: float
    n_pairs: int | None = Field(description="Of different texts. Null: not looked for; `reason` says why.")
    n_items: int | None = Field(description="Items with a near-duplicate.")
    complete: bool
    reason: str | None
    pairs: list[SimilarPair] = Field(description="Most similar first, 200 at most.")


class TagCount(Reply):
    tag: str
    n: int


class CoverageOut(Reply):
    untagged: int
    tags: list[TagCount] = Field(description="Most frequent first, 1,000 at most.")
    n_groups: int
    largest_group: int


class Quality(Reply):
    name: str
    version: int
    n_items: int
    warnings: list[Warned]
    balance: BalanceOut
    input_lengths: LengthsOut | None
    answer_lengths: LengthsOut | None
    duplicates: DuplicatesOut
    near_duplicates: NearDuplicatesOut
    coverage: CoverageOut


class ModelAnswer(Reply):
    model: str
    answer: str | None
    probability: float | None


class LabelDoubt(Reply):
    label: str
    given: bool = Field(description="The item has the label, and should probably not; false: the reverse.")
    probability: float | None = Field(description="That the item has the label.")
    models: int | None = Field(description="Evaluations that say so, where they are asked for their answers.")


class NoiseItem(ShownItem):
    suggested: str = Field(description="Of a multi-label item all labels that it should probably have.")
    probability: float | None = Field(
        description="Of the suggested label; null where no model says how sure it is. Of a multi-label item: that the "
        "first of its `doubts` is one."
    )
    label_probability: float | None = Field(
        description="Of its own label, where probabilities of every label are known."
    )
    doubts: list[LabelDoubt] = Field(
        [], description="Of a multi-label item: the labels it should probably lose or get, the most certain first."
    )
    models: int | None = Field(description="Evaluations that give the suggested label, or labels.")
    answers: list[ModelAnswer] = Field(description="What each evaluation answered.")


class LabelNoiseOut(Reply):
    method: Literal["evaluations", "cross_validation"]
    basis: Literal["label_scores", "answers"] | None = Field(
        None,
        description="What evaluations are asked for. label_scores: the mean of their probabilities, by confident "
        "learning (an item is listed where another label has at least the probability that items of that label have on "
        "average, and more than its own). answers: what more than half of them answer alike, none with a probability "
        "under 0.9; of multi-label items two of them at least. Null for another method, or where there is nothing to "
        "tell.",
    )
    multi_label: bool = Field(
        False,
        description="Items have several labels: each label is judged by itself, as one that items have or do not have, "
        "and a candidate is an item with such a doubt.",
    )
    reason: str | None = Field(description="Why there is nothing to tell.")
    models: list[str] = Field(description="The evaluations asked, newest first.")
    judged: int
    accuracy: float | None = Field(
        description="Of the cross-validated model, by the labels as they are; of multi-label items all of an item's."
    )
    n_candidates: int
    candidates: list[NoiseItem] = Field(description="Most certain first, 200 at most.")

    @classmethod
    def nothing(cls, method: str, reason: str, models: list[str]) -> LabelNoiseOut:
        """There is nothing to tell."""
        return cls.model_validate(
            {
                "method": method,
                "reason": reason,
                "models": models,
                "judged": 0,
                "accuracy": None,
                "n_candidates": 0,
                "candidates": [],
            }
        )


class DifferenceOut(Reply):
    test: str
    statistic: float | None
    p_value: float | None
    effect: float | None = Field(description="Cramér's V, or the Kolmogorov-Smirnov distance: 0 is no difference.")
    reason: str | None


class LabelShares(Reply):
    label: str
    train: int
    test: int


class SetRef(Reply):
    id: str
    kind: Literal["dataset", "suite"]
    name: str
    version: int
    n_items: int


class Leakage(Reply):
    train: SetRef
    test: SetRef
    warnings: list[Warned]
    n_exact: int = Field(description="Test items whose text is in the training set.")
    n_near: int | None = Field(description="Test items whose text is nearly in it, and not exactly.")
    complete: bool
    reason: str | None
    threshold: float
    pairs: list[SimilarPair] = Field(description="`first` is of the training set. Exact ones first; 200 at most.")
    leaked: list[str] = Field(description="Ids of all test items with a same or similar training text, 10,000 at most.")
    labels: list[LabelShares] = Field(description="Most frequent first, 1,000 at most.")
    only_in_test: list[str] = Field(description="Labels that training never shows.")
    label_difference: DifferenceOut
    length_difference: DifferenceOut
    train_lengths: LengthsOut | None
    test_lengths: LengthsOut | None


class PartOut(Reply):
    name: str
    n: int
    share: float
    asked: float
    labels: list[LabelCount]


class SplitOut(Reply):
    seed: int
    parts: list[PartOut]
    units: int = Field(description="Items that belong together are one: groups, same texts, near-duplicates if asked.")
    warnings: list[Warned]
    assignment: list[int] = Field(description="The number of each item's part, in the order of the items.")
