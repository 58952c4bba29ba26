"""The content of a report: one plain record, filled from a run folder by the report stage and by
hand in tests.

Every value is a number, a string or a tuple or mapping of them, so the record goes to JSON and back. A number
that was not measured is None; NaN and infinities are treated the same. Item lines and sample texts are
untrusted and unescaped here: whoever renders the record escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shelftalk.data.splitting import Scheme
from shelftalk.evaluation.metrics import RATING_METRICS, lower_is_better
from shelftalk.records import Segment

Fact = str | int | float | bool | None
Metrics = Mapping[str, float | None]
Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class ModelRow:
    """One model's figures on one task."""

    model: str
    """Its name, such as "aligned+prior" or "item_knn"; a name that ends in "@refit" is kept
    out of comparisons."""
    metrics: Metrics
    """Metric name, such as "recall@10", to its value on the test part."""
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    """Metric name to the ends of its 95 % interval; a metric may be missing."""
    baseline: bool = False
    """Whether it is a conventional model that the language model is compared with; plots draw it in grey."""
    imported: bool = False
    """Whether its answers were imported from another system, of which nothing else is known."""


@dataclass(frozen=True)
class Difference:
    """Two models on the same users (or ratings), paired: the mean of the first minus the second."""

    first: str
    """The model of interest."""
    second: str
    """The model that it is compared with."""
    metric: str
    """The metric that is compared."""
    value: float | None
    """First minus second, in units of the metric."""
    low: float | None
    """Lower end of the 95 % interval of the difference."""
    high: float | None
    """Upper end of the 95 % interval of the difference."""
    p: float | None = None
    """Two-sided p-value of the difference being zero."""
    p_adjusted: float | None = None
    """The p-value adjusted for the number of pairs in this metric of the task."""
    smallest_effect: float | None = None
    """The true difference that this test set would have shown in 80 of 100 cases."""


@dataclass(frozen=True)
class TaskResults:
    """Everything measured on one of the tasks "retrieval", "ranking", "rating"."""

    task: str
    """The task's name."""
    rows: tuple[ModelRow, ...]
    """The models, in the order in which tables and plots show them."""
    main_metric: str
    """The metric of the summary, chosen before the results were seen."""
    plotted: tuple[str, ...]
    """The metrics that get a plot; the others are only in the table."""
    n: int
    """How many users (or ratings) each figure is a mean over."""
    unit: str
    """What is counted by `n`: "users" or "ratings"."""
    protocol: str
    """A sentence on candidates, split and convention (train-only)."""
    differences: tuple[Difference, ...] = ()
    """Paired comparisons, the most important first: the first one on the main metric makes the summary."""
    lower_is_better: tuple[str, ...] = tuple(name for name in RATING_METRICS if lower_is_better(name))
    """The metrics that are errors."""
    of_lists: tuple[ModelRow, ...] = ()
    """What the models' lists are like, beside accuracy."""


@dataclass(frozen=True)
class CostRow:
    """What one model chose on validation, and the time it took on the machine of the run."""

    model: str
    """Its name."""
    chosen: tuple[str, ...] = ()
    """A sentence for each thing that it chose on the validation part, with how many settings it tried."""
    fit_seconds: float | None = None
    """Seconds to fit it, its choices on validation included; of a trained language model, to open it. None
    where not measured apart from answering."""
    training_seconds: float | None = None
    """Seconds of the stages that trained it, where there are such."""
    seconds_per_1000: Mapping[str, float] = field(default_factory=dict)
    """Task -> seconds to answer 1,000 requests, where measured apart from fitting."""
    together: float | None = None
    """Seconds to fit and to answer 1,000 requests of all its tasks, where that is all that was measured."""
    peak_memory_mb: float | None = None
    """Highest memory of the process while it was fitted and answered."""


@dataclass(frozen=True)
class AblationTable:
    """The differences of an ablation that was made in the run's folder."""

    name: str
    """The ablation's name."""
    page: str
    """Path of its own report, relative to the run folder."""
    baseline: str
    """The variant that the others are compared with."""
    summary: str
    """A sentence on seeds, tokens and the part evaluated."""
    differences: tuple[Difference, ...]
    """Variant minus baseline; the metric as "retrieval ndcg@10", p adjusted for the number of variants."""


@dataclass(frozen=True)
class Stage:
    """How long one stage of the run took."""

    name: str
    """The stage, such as "train"."""
    seconds: float | None
    """Wall time; of a skipped stage, the time when it was last done."""
    skipped: bool = False
    """Whether its result of an earlier run was used."""


@dataclass(frozen=True)
class SliceRow:
    """One model's figures on a part of the users."""

    task: str
    """The task's name."""
    kind: str
    """By what users are divided: "item popularity", "history length"."""
    slice: str
    """The part, such as "never seen in training"; parts are shown in order of appearance."""
    n: int
    """Users (or ratings) in the part."""
    model: str
    """The model's name."""
    metrics: Metrics
    """Metric name to value; the report shows the task's main metric."""
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    """Metric name to the ends of its 95 % interval, where there is one."""


@dataclass(frozen=True)
class CurvePoint:
    """One measured loss."""

    step: int
    """Optimizer steps done."""
    tokens: int
    """Tokens seen so far."""
    task: str
    """The task whose samples were measured, or "all" for the mixture."""
    part: str
    """Either "training" or "validation"."""
    loss: float | None
    """Mean loss in nats per target token."""


@dataclass(frozen=True)
class QualityPoint:
    """Recommendation quality at one validation, over the users evaluated during training."""

    step: int
    """Optimizer steps done."""
    tokens: int
    """Tokens seen so far."""
    metric: str
    """A metric of retrieval."""
    value: float
    """Its mean over those users, on the validation part."""


@dataclass(frozen=True)
class ShownSample:
    """One training sample as the model sees it."""

    task: str
    """The kind of sample."""
    template: str
    """Name of the template."""
    segments: tuple[Segment, ...]
    """The text in order; each segment with whether it bears loss and whether it consists of symbols."""


@dataclass(frozen=True)
class Recommendation:
    """One line of a user's list."""

    line: str
    """The item as a person reads it: title and perhaps year or brand."""
    score: float | None
    """The model's score; higher is better."""
    hit: bool = False
    """Whether it is the item that the user took."""


@dataclass(frozen=True)
class ShownUser:
    """One user: their history, the model's recommendations, and what they took next."""

    label: str
    """A running number, never the shop's id."""
    history: tuple[str, ...]
    """Item lines of the most recent part of the history, oldest first."""
    earlier: int
    """How many older items are not listed."""
    model: str
    """The model that recommends."""
    top: tuple[Recommendation, ...]
    """Its first five, best first."""
    truth: str
    """The item line of what the user took next."""
    rank: int | None
    """Position of the truth in the model's list, from 1; None where it is not in it."""
    listed: int
    """Length of the list that was searched for the truth."""
    ordered: bool = True
    """Whether the history has an order, so that "earlier" and "next" mean something."""


CHANGE = "held out − seen"


@dataclass(frozen=True)
class TemplateRow:
    """One model with templates it was trained on, or with templates held out."""

    task: str
    """The task's name."""
    model: str
    """The model's name."""
    templates: str
    """Either "seen" or "held out", or CHANGE: the held-out figure minus the seen one, on the same users."""
    n: int
    """Users (or ratings)."""
    metrics: Metrics
    """Metric name to value."""
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    """Metric name to the ends of its 95 % interval, where there is one."""


@dataclass(frozen=True)
class SearchErrorRow:
    """How often a beam search misses the model's true top 10."""

    beams: int
    """Its width."""
    finish: str
    """How a beam is finished that has one item left, as in the settings of decoding."""
    n: int
    """Requests whose true top 10 is known."""
    differing: float
    """Share of them whose top 10 holds other items than the true one."""
    missing: float
    """Mean share of the true top 10 that is missing."""
    shortfall: float
    """Largest gap in nats between a tenth item and the true tenth."""


@dataclass(frozen=True)
class PublishedRow:
    """A model of this run, or one of the ledger under the same protocol."""

    model: str
    """Its name."""
    source: str
    """Where the figure was published; THIS_RUN for one of ours."""
    metrics: Metrics
    """Metric name to value; a publication may lack some."""
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    """Metric name to the ends of its 95 % interval; publications give none."""


THIS_RUN = "this run"


@dataclass(frozen=True)
class PublishedTable:
    """This run beside publications: one task, one data set, one convention."""

    task: str
    """The task's name."""
    dataset: str
    """The data set as publications name it."""
    protocol: str
    """A sentence on what all rows share."""
    metrics: tuple[str, ...]
    """The columns."""
    rows: tuple[PublishedRow, ...]
    """Models of this run first, then the ledger's in its order."""


@dataclass(frozen=True)
class ElsewhereRow:
    """A published model on other terms than this run's, or on terms that are not known."""

    model: str
    """Its name."""
    source: str
    """Where the figures were published."""
    metrics: Metrics
    """Metric name to value."""
    terms: tuple[str, ...]
    """Its terms, in the order of TERMS."""
    why: str
    """A sentence on them."""


TERMS = ("split", "tested", "ties", "candidates", "seen items", "convention", "seeds", "terms verified")
"""On what terms a figure was measured."""


@dataclass(frozen=True)
class ElsewhereTable:
    """Published figures of one task and data set that must not stand in one table with this run's."""

    task: str
    """The task's name."""
    dataset: str
    """The data set as publications name it."""
    ours: tuple[str, ...]
    """The terms of this run, in the order of TERMS."""
    metrics: tuple[str, ...]
    """The columns."""
    rows: tuple[ElsewhereRow, ...]
    """In the order of the ledger."""


@dataclass(frozen=True)
class CertifiedFact:
    """One fact of the run's certificate."""

    name: str
    """A few words."""
    checked: str
    """What was checked, in a sentence."""
    value: str
    """What came out, in words and numbers."""
    holds: bool | None
    """Whether it is as it must be; None where it could not be checked."""
    how: str
    """How it was checked, or why it could not be."""


@dataclass(frozen=True)
class Link:
    """A file of the run folder."""

    label: str
    """What it holds."""
    path: str
    """Its path, relative to the run folder."""


@dataclass(frozen=True)
class ReportContent:
    """The whole report. Only the first six fields are required; what is empty gets no section."""

    title: str
    """Name of the experiment."""
    when: str
    """When the report was made, as a person reads it."""
    seed: int
    """The run's seed."""
    version: str
    """Version of shelftalk."""
    command: str
    """The command line that makes this run again."""
    data: Mapping[str, Fact]
    """Facts of the data by label: source, users, items, interactions before and after the filter,
    tie rule ..."""
    data_notes: tuple[str, ...] = ()
    """A sentence for each kind of value that looks like another, or was changed, when the data was read."""
    data_probes: tuple[str, ...] = ()
    """A sentence for each probe of what the data itself gives away."""
    machine: Mapping[str, Fact] = field(default_factory=dict)
    """Facts of the machine by label: processor, cores, memory ..."""
    settings: str = ""
    """The resolved experiment file, as TOML text."""
    scheme: Scheme = "leave_one_out"
    """How events were divided."""
    split_name: str = ""
    """The name of an unusual protocol, as in "test of a random split"; empty for leave-one-out in the
    published order."""
    split_note: str = ""
    """The sentence on it, stated with the summary."""
    left_out: tuple[str, ...] = ()
    """A sentence for each task that the data cannot support, with the reason."""
    model: Mapping[str, Fact] = field(default_factory=dict)
    """Facts of the language model by label: backbone, parameters, vocabulary, index scheme,
    targets trained ..."""
    stages: tuple[Stage, ...] = ()
    """The stages in the order in which they ran."""
    tasks: tuple[TaskResults, ...] = ()
    """Results, task by task."""
    chosen: tuple[str, ...] = ()
    """A sentence for each value that was chosen on validation, with the validation figure."""
    costs: tuple[CostRow, ...] = ()
    """What each model chose and what it cost, in the order of the models."""
    costs_note: str = ""
    """What the times hold, and what they were measured on."""
    ablations: tuple[AblationTable, ...] = ()
    """Ablations made in the run's folder."""
    correction: str = ""
    """By whose procedure p-values are adjusted for the number of comparisons; "" where they are not."""
    slices: tuple[SliceRow, ...] = ()
    """The same models on parts of the users."""
    curves: tuple[CurvePoint, ...] = ()
    """Losses during training."""
    quality: tuple[QualityPoint, ...] = ()
    """Recommendation quality during training, of the metrics shown; empty where it was not measured."""
    best_step: int | None = None
    """The step whose checkpoint was kept."""
    samples: tuple[ShownSample, ...] = ()
    """An example of each kind of sample."""
    users: tuple[ShownUser, ...] = ()
    """About twenty users."""
    users_note: str = ""
    """A sentence on how these users were picked."""
    warnings: tuple[str, ...] = ()
    """What makes the figures of this run invalid, such as an item index that leaks; shown first."""
    published: tuple[PublishedTable, ...] = ()
    """Published numbers under the same protocol, beside ours."""
    published_note: str = ""
    """How to read them, or that there are none for this data set."""
    elsewhere: tuple[ElsewhereTable, ...] = ()
    """Published numbers of the same data on other or unknown terms, apart from ours."""
    held_out_templates: tuple[TemplateRow, ...] = ()
    """Seen against held-out templates."""
    held_out_templates_note: str = ""
    """Which requests were evaluated."""
    search_error: tuple[SearchErrorRow, ...] = ()
    """Beams against the model's true top 10."""
    search_error_note: str = ""
    """Which requests were evaluated, and how to read it."""
    caveats: tuple[str, ...] = ()
    """What a reader must know before believing the numbers, one sentence each."""
    test_evaluations: int | None = None
    """How many times the test part was evaluated in this run folder, this time included."""
    certificate: str = ""
    """Fingerprint of the run's certificate; "" where there is none."""
    facts: tuple[CertifiedFact, ...] = ()
    """The facts of the certificate."""
    links: tuple[Link, ...] = ()
    """Files of the run folder that a reader may want to open."""
