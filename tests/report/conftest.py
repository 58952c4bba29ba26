"""A realistic report with every part filled, made by hand: its numbers are invented."""

from __future__ import annotations

import pytest

from shelftalk.records import Segment
from shelftalk.report.content import (
    CHANGE,
    THIS_RUN,
    AblationTable,
    CertifiedFact,
    CostRow,
    CurvePoint,
    Difference,
    ElsewhereRow,
    ElsewhereTable,
    Link,
    ModelRow,
    PublishedRow,
    PublishedTable,
    Recommendation,
    ReportContent,
    SearchErrorRow,
    ShownSample,
    ShownUser,
    SliceRow,
    Stage,
    TaskResults,
    TemplateRow,
)

FILMS = (
    "Toy Story (1995)", "Heat (1995)", "Sense and Sensibility (1995)",
    "Twelve Monkeys (a.k.a. 12 Monkeys) (1995)",
    "Usual Suspects, The (1995)", "Braveheart (1995)", "Pulp Fiction (1994)",
    "Shawshank Redemption, The (1994)",
    "Forrest Gump (1994)", "Speed (1994)", "Jurassic Park (1993)", "Schindler's List (1993)",
    "Blade Runner (1982)",
    "Terminator 2: Judgment Day (1991)", "Silence of the Lambs, The (1991)", "Fargo (1996)",
    "Trainspotting (1996)",
    "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1964)", "Amélie (2001)",
    "Spirited Away (2001)",
)  # fmt: skip
COLUMNS = {
    "retrieval": ("recall@1", "recall@5", "ndcg@5", "recall@10", "ndcg@10", "recall@20", "ndcg@20", "mrr"),
    "ranking": ("hr@1", "hr@5", "ndcg@5", "hr@10", "ndcg@10"),
    "rating": ("rmse", "mae"),
}
VALUES = {
    "retrieval": {
        "aligned+prior": (0.0283, 0.0760, 0.0523, 0.1237, 0.0676, 0.1893, 0.0841, 0.0612),
        "aligned": (0.0194, 0.0566, 0.0380, 0.0924, 0.0494, 0.1550, 0.0651, 0.0463),
        "item_knn": (0.0253, 0.0700, 0.0481, 0.1118, 0.0615, 0.1729, 0.0768, 0.0566),
        "popularity": (0.0045, 0.0253, 0.0149, 0.0447, 0.0211, 0.0760, 0.0290, 0.0222),
    },
    "ranking": {
        "aligned+prior": (0.2086, 0.4948, 0.3558, 0.6513, 0.4063),
        "aligned": (0.1624, 0.4247, 0.2979, 0.5916, 0.3519),
        "item_knn": (0.1982, 0.4814, 0.3447, 0.6393, 0.3957),
        "popularity": (0.0984, 0.3070, 0.2041, 0.4784, 0.2593),
    },
    "rating": {
        "aligned+prior": (0.8701, 0.6654), "aligned": (0.8894, 0.6802), "bias": (0.8663, 0.6629),
        "global_mean": (1.0412, 0.8307),
    },
}  # fmt: skip
BASELINES = {"item_knn", "popularity", "bias", "global_mean"}


def model_row(task: str, model: str) -> ModelRow:
    metrics = dict(zip(COLUMNS[task], VALUES[task][model], strict=True))
    half = 0.012 if task == "rating" else 0.022
    return ModelRow(
        model=model,
        metrics=metrics,
        intervals={
            name: (max(0.0, round(value - half, 4)), round(value + half, 4))
            for name, value in metrics.items()
        },
        baseline=model in BASELINES,
    )


def task_results(task: str, n: int, protocol: str, differences: tuple[Difference, ...]) -> TaskResults:
    return TaskResults(
        task=task,
        rows=tuple(model_row(task, model) for model in VALUES[task]),
        main_metric={"retrieval": "recall@10", "ranking": "ndcg@10", "rating": "rmse"}[task],
        plotted={
            "retrieval": ("recall@10", "ndcg@10", "mrr"),
            "ranking": ("hr@1", "ndcg@10"),
            "rating": ("rmse", "mae"),
        }[task],
        n=n,
        unit="ratings" if task == "rating" else "users",
        protocol=protocol,
        differences=differences,
    )


def difference(first: str, second: str, *figures: float) -> Difference:
    return Difference(first, second, "recall@10", *figures)


def tasks() -> tuple[TaskResults, ...]:
    return (
        task_results(
            "retrieval", 671,
            "All 3,496 items minus those in the history; leave-one-out by time; train-only.",
            (
                difference("aligned+prior", "item_knn", 0.0119, 0.0015, 0.0224, 0.026, 0.039, 0.0149),
                difference("aligned+prior", "aligned", 0.0313, 0.0121, 0.0506, 0.001, 0.003, 0.0275),
                difference("aligned+prior", "popularity", 0.079, 0.0552, 0.1029, 0.0002, 0.0012, 0.034),
                Difference("aligned", "item_knn", "recall@10", -0.0194, -0.0402, -0.0015, 0.041),
                Difference("aligned", "popularity", "recall@10", 0.0477, 0.0238, 0.0715, 0.0002),
                Difference("aligned+prior", "item_knn", "ndcg@10", 0.0061, -0.0004, 0.0126, 0.068),
            ),
        ),
        task_results(
            "ranking", 671,
            "One item taken and 99 drawn uniformly from the rest; leave-one-out by time; train-only.",
            (
                Difference("aligned+prior", "item_knn", "ndcg@10", 0.0106, -0.0021, 0.0233, 0.101),
                Difference("aligned", "popularity", "ndcg@10", 0.0926, 0.0693, 0.1159, 0.0002),
            ),
        ),
        task_results(
            "rating", 9007,
            "Ratings split 80/10/10, events held out for retrieval not in training; train-only.",
            (Difference("aligned+prior", "bias", "rmse", 0.0038, 0.0011, 0.0066, 0.006),),
        ),
    )  # fmt: skip


def slices() -> tuple[SliceRow, ...]:
    parts = {
        "item popularity": (
            ("never seen in training", 21),
            ("rare (1-20)", 171),
            ("middle (21-80)", 262),
            ("popular", 217),
        ),
        "history length": (("under 20", 88), ("20-60", 253), ("over 60", 330)),
    }
    return tuple(
        slice_row(
            task,
            metric,
            model,
            kind,
            part,
            n,
            0.0 if part == "never seen in training" else 0.4 + 0.4 * position,
        )
        for task, metric in (("retrieval", "recall@10"), ("ranking", "ndcg@10"))
        for kind, divided in parts.items()
        for position, (part, n) in enumerate(divided)
        for model in VALUES[task]
    )


def slice_row(task: str, metric: str, model: str, kind: str, part: str, n: int, share: float) -> SliceRow:
    value = round(share * model_row(task, model).metrics[metric], 4)
    intervals = {metric: (round(0.8 * value, 4), round(1.2 * value, 4))} if value else {}
    return SliceRow(task, kind, part, n, model, {metric: value}, intervals)


def curves() -> tuple[CurvePoint, ...]:
    ends = {
        "all": 2.61,
        "retrieval": 3.38,
        "ranking": 2.72,
        "rating": 1.31,
        "masked_items": 3.05,
        "masked_language": 1.93,
    }
    return tuple(
        CurvePoint(step, step * 8192, task, part, end + gap + 3.2 * 0.994**step + wave * (step // 50 % 2))
        for task, end in ends.items()
        for part, every, gap, wave in (("training", 50, 0.0, 0.06), ("validation", 250, 0.11, 0.0))
        for step in range(every, 1501, every)
    )


def samples() -> tuple[ShownSample, ...]:
    history = "Heat (1995), Fargo (1996), Blade Runner (1982)"
    return (
        ShownSample("retrieval", "took-then", (
            Segment(f"A person took: {history}.\nWhat does this person take next?\n"),
            Segment("<a_12><b_7><c_3>", bears_loss=True, symbols=True),
            Segment(" Trainspotting (1996)", bears_loss=True),
        )),
        ShownSample("ranking", "which-of-these", (
            Segment("Taken so far: "), Segment("<a_4><b_9><c_0>", symbols=True),
            Segment(" Heat (1995).\nWhich comes next?\n(1) Speed (1994)\n(2) Amélie (2001)\nAnswer: "),
            Segment("Speed (1994)", bears_loss=True),
        )),
        ShownSample("rating", "how-many-stars", (
            Segment("Heat (1995): 4.5 stars. Fargo (1996): 5 stars.\nStars for Blade Runner (1982)? "),
            Segment("4.5", bears_loss=True),
        )),
        ShownSample("masked_items", "fill-in", (
            Segment("Heat (1995), <mask>, Blade Runner (1982). Hidden: "),
            Segment("Fargo (1996)", bears_loss=True),
        )),
        ShownSample("masked_language", "spans", (
            Segment("Heat (19<extra_id_0>), Far<extra_id_1> (1996)\n"),
            Segment("<extra_id_0> 95 <extra_id_1> go", bears_loss=True),
        )),
        ShownSample("pairwise_preference", "prefers", (
            Segment(f"Took: {history}. Prefers Trainspotting (1996) or Speed (1994)? "),
            Segment("Trainspotting (1996)", bears_loss=True),
        )),
    )  # fmt: skip


def user(number: int) -> ShownUser:
    lines = [FILMS[(number * 3 + position) % len(FILMS)] for position in range(14)]
    rank = (3, 1, 17, None, 44)[number % 5]
    top = tuple(
        Recommendation(lines[8 + position], -2.31 - 0.4 * position, hit=rank == position + 1)
        for position in range(5)
    )
    truth = top[rank - 1].line if rank is not None and rank <= 5 else lines[13]
    return ShownUser(
        f"Person {number + 1}", tuple(lines[:8]), 52 - number, "aligned+prior", top, truth, rank, 50
    )


@pytest.fixture(scope="session")
def content() -> ReportContent:
    return full_content()


def full_content() -> ReportContent:
    return ReportContent(
        title="movielens-small",
        when="12 March 2025, 14:07",
        seed=42,
        version="0.1.0",
        command="shelftalk run --seed 42",
        data={
            "source": "MovieLens small (bundled)", "users": 671, "items": 3496, "interactions": 90072,
            "interactions before the filter": 100004, "k-core": "5, iterated",
            "order": "by time; ties by seeded hash",
            "items without a title": 0, "items without a brand": 3496, "ratings": True,
        },
        machine={
            "processor": "x86-64, 2 cores", "memory (GB)": 7.7, "bf16": True, "GPU": None, "torch": "2.13.0",
        },
        settings='name = "movielens-small"\nseed = 42\n\n[training]\nbatch_size = 32\nsteps = 1500\n',
        left_out=(),
        model={
            "backbone": "nano, decoder-only", "parameters": 3512064, "vocabulary": 4608, "dtype": "bf16",
            "item index": "semantic, 3 levels of 128", "training steps": 1500, "tokens seen": 12288000,
            "targets trained": 2113408, "peak memory (GB)": 2.84,
        },
        stages=(
            Stage("prepare", 3.1, skipped=True), Stage("index", 8.4), Stage("write", 21.0),
            Stage("train", 374.0),
            Stage("recommend", 96.0), Stage("evaluate", 14.2),
        ),
        tasks=tasks(),
        chosen=(
            "aligned+prior: weight 0.35 of item_knn (validation NDCG@10 .0712).",
            "item_knn: text .3, last 10 items, decay .8 (validation NDCG@10 .0671).",
        ),
        costs=(
            CostRow(
                "aligned+prior", ("retrieval: weight 0.35 of item_knn (validation NDCG@10 .0712).",), 4.5,
                374.0, {"retrieval": 8.1, "ranking": 12.5, "rating": 0.9}, peak_memory_mb=2840.0,
            ),
            CostRow(
                "aligned", (), 0.4, 374.0, {"retrieval": 6.2, "ranking": 9.5, "rating": 0.7},
                peak_memory_mb=2610.0,
            ),
            CostRow(
                "item_knn", ("108 settings tried: text .3, last 10 items, decay .8.",), 4.1, None,
                {"retrieval": 0.031, "ranking": 0.029}, peak_memory_mb=485.0,
            ),
            CostRow(
                "popularity", (), 0.02, None, {"retrieval": 0.0021, "ranking": 0.0008}, peak_memory_mb=210.0
            ),
            CostRow("bias", ("20 settings tried.",), 0.9, None, {"rating": 0.0101}, peak_memory_mb=205.0),
        ),
        costs_note="Fitting holds the choice on validation. Times are those of one machine.",
        ablations=(
            AblationTable(
                "auxiliary-tasks", "auxiliary-tasks/ablation.html", "retrieval alone",
                "Seeds 0, 1, 2, 4,000,000 training tokens each, evaluated on the test part.",
                tuple(
                    Difference(variant, "retrieval alone", metric, value, value - 0.006, value + 0.006, p)
                    for variant, value, p in (("+ masked items", 0.0081, 0.012), ("+ BPR", -0.0022, 0.61))
                    for metric in ("retrieval recall@10", "retrieval ndcg@10", "ranking hr@1")
                ),
            ),
        ),
        slices=slices(),
        curves=curves(),
        best_step=1250,
        samples=samples(),
        users=tuple(user(number) for number in range(20)),
        users_note="Twenty people drawn with the run's seed, not picked by their results.",
        held_out_templates=tuple(
            TemplateRow(
                task, "aligned", templates, 671, {"ndcg@10": value},
                {"ndcg@10": (value - 0.014, value + 0.014)}
            )
            for task, templates, value in (
                ("retrieval", "seen", 0.0494), ("retrieval", "held out", 0.0461),
                ("ranking", "seen", 0.3519), ("ranking", "held out", 0.3398),
            )
        ) + (
            TemplateRow(
                "ranking", "aligned", CHANGE, 671, {"ndcg@10": -0.0121}, {"ndcg@10": (-0.0302, 0.0051)}
            ),
        ),
        held_out_templates_note="At most 671 users were drawn.",
        search_error=(
            SearchErrorRow(10, "replay", 98, 0.3061, 0.0439, 1.25),
            SearchErrorRow(40, "replay", 98, 0.0102, 0.001, 0.0217),
        ),
        search_error_note="100 users answered by beams and by exact search.",
        warnings=("The item index was built from what is held out.",),
        published=(
            PublishedTable(
                "retrieval", "A well-known data set", "Retrieval, leave-one-out, candidates: all items.",
                ("recall@10", "ndcg@10"),
                (
                    PublishedRow(
                        "item_knn", THIS_RUN, {"recall@10": 0.1118, "ndcg@10": 0.0615},
                        {"recall@10": (0.0898, 0.1338)},
                    ),
                    PublishedRow("Elsewhere", "Doe, A Paper, 2024", {"recall@10": 0.0777}),
                ),
            ),
        ),
        published_note="Publications may have chosen their models otherwise.",
        elsewhere=(
            ElsewhereTable(
                "retrieval", "A well-known data set",
                ("leave-one-out", "last", "shuffled", "all items", "left out", "train-only", "1", "yes"),
                ("recall@10",),
                (
                    ElsewhereRow(
                        "Abroad", "Roe, Another Paper, 2025", {"recall@10": 0.0999},
                        ("unknown", "last but one", "unknown", "all items", "unknown", "unknown", "unknown",
                         "no"),
                        "It tests another item.",
                    ),
                ),
            ),
        ),
        certificate="5eed" * 16,
        facts=(
            CertifiedFact("answers", "Every answer is valid.", "invalid 0", True, "Counted over all."),
            CertifiedFact("split", "Training comes first.", "events 2", False, "Counted over all events."),
            CertifiedFact("convention", "Models saw the training part.", "", None, "Not checked: so it is."),
        ),
        caveats=(
            "671 people are few: an interval of Recall@10 is about five hundredths wide.",
            "The model is a reconstruction of a published idea, not of its code.",
        ),
        test_evaluations=2,
        links=(
            Link("All numbers", "metrics.json"),
            Link("Per-user values", "evaluation/retrieval aligned.parquet"),
        ),
    )  # fmt: skip
