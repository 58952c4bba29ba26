"""What is refused in files of requests and of scores: the sentence is read, the row or the file changed as it
says, and it is taken."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shelftalk.batch.request_files import columns_of, request_of, rows_of, suffix_of
from shelftalk.data.splitting import SplitSettings, split_dataset
from shelftalk.errors import ShelftalkError
from shelftalk.evaluation.comparison import requests_of
from shelftalk.evaluation.score_files import imported_answers, read_scores
from shelftalk.recommender import TaskName
from shelftalk.testing.exams import exam_split
from shelftalk.testing.worlds import tiny_world

# --- rows of requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ("history", "B01 B02"),
        ("history", '{"text": "a"}'),
        ("ratings", "4.5 3"),
        ("ratings", "4.5"),
        ("candidates", "B01 B02"),
        ("candidates", '"B01"'),
        ("excluded", {"B01": True}),
        ("filter", "brands: OPI"),
        ("filter", ["OPI"]),
    ],
)
def test_a_cell_written_as_the_sentence_shows_is_a_request(column: str, wrong: Any) -> None:
    row = {"history": '["B01", "B02"]', column: wrong}
    with pytest.raises(ShelftalkError) as error:
        request_of(row)
    shown = re.findall(r"write it as (.+)$", str(error.value))[0]
    assert request_of({**row, column: shown}) and request_of({**row, column: json.loads(shown)})


def test_a_value_corrected_as_the_sentence_says_is_a_request() -> None:
    wrong: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "give ids as text, and words as": ({"history": [1.5]}, {"history": ["1.5", {"text": "a lamp"}]}),
        "is no id; give ids as text": ({"candidates": [{"text": "a"}]}, {"candidates": ["a"]}),
        "give some words, or leave it out": ({"history": [{"text": " "}]}, {"history": [{"text": "a"}]}),
        "give a number, or null where it is unknown": ({"ratings": ["good"]}, {"ratings": [None]}),
        "give one for each item of the history": ({"ratings": [1, 2]}, {"ratings": [1]}),
        'did you mean "brands"': ({"filter": {"brand": ["x"]}}, {"filter": {"brands": ["x"]}}),
        "give a tuple of texts": ({"filter": {"brands": "x"}}, {"filter": {"brands": ["x"]}}),
        "give a price or None": ({"filter": {"min_price": "1"}}, {"filter": {"min_price": 1}}),
    }
    for words, (given, corrected) in wrong.items():
        with pytest.raises(ShelftalkError) as error:
            request_of({"history": ["a"], **given})
        assert words in str(error.value), str(error.value)
        assert request_of({"history": ["a"], **corrected})


@pytest.mark.parametrize(
    ("name", "wrong", "words", "right"),
    [
        (
            "a.csv",
            "user_id,histroy\nu,[]\n",
            'did you mean "histroy"?); name it so',
            "user_id,history\nu,[]\n",
        ),
        ("a.csv", "", "(it is empty); name it so, and let it hold item ids", "history\n[]\n"),
        (
            "a.csv",
            "user_id,history\nu\n",
            "correct the file and give the same command again",
            "history\n[]\n",
        ),
        ("a.csv", 'history\n"[\n', "correct the file and give the same command again", "history\n[]\n"),
        ("a.jsonl", '{"history": [\n', "correct the file", '{"history": []}\n'),
        ("a.jsonl", "[]\n", "correct the file", '{"history": []}\n'),
    ],
)
def test_a_file_of_requests_corrected_as_the_sentence_says_is_read(
    tmp_path: Path, name: str, wrong: str, words: str, right: str
) -> None:
    path = tmp_path / name
    path.write_text(wrong)
    with pytest.raises(ShelftalkError) as error:
        columns_of(path)
        list(rows_of(path))
    assert words in str(error.value), str(error.value)
    path.write_text(right)
    assert "history" in columns_of(path) and len(list(rows_of(path))) == 1


def test_an_ending_that_is_named_has_a_format(tmp_path: Path) -> None:
    with pytest.raises(ShelftalkError) as error:
        suffix_of(tmp_path / "requests.xlsx")
    named = re.findall(r"rename it to one of (.+)\.$", str(error.value))[0].split(", ")
    assert len(named) == 6 and all(suffix_of(tmp_path / f"requests{one}") == one for one in named)


# --- scores of another system ----------------------------------------------------------------------------

SPLIT = exam_split()


def all_scores(task: TaskName) -> pl.DataFrame:
    """A right score file: two items of each list, every candidate, or every rating."""
    requests, _ = requests_of(SPLIT, task, "test")
    rows = []
    for request in requests:
        unseen = [item for item in SPLIT.dataset.item_ids if item not in request.history][:2]
        items = {"retrieval": unseen, "ranking": request.candidates, "rating": [request.item]}[task]
        rows += [(request.user, item, 3.0 - number / 100) for number, item in enumerate(items)]
    return pl.DataFrame(rows, schema=["user", "item", "score"], orient="row")


def told(scores: pl.DataFrame, path: Path, task: TaskName = "retrieval", drop_seen: bool = False) -> str:
    scores.write_csv(path)
    with pytest.raises(ShelftalkError) as error:
        imported_answers(path, SPLIT, task, drop_seen)
    return str(error.value)


def taken(scores: pl.DataFrame, path: Path, task: TaskName = "retrieval", drop_seen: bool = False) -> bool:
    scores.write_csv(path)
    requests, _ = requests_of(SPLIT, task, "test")
    return len(imported_answers(path, SPLIT, task, drop_seen).frame) == len(requests)


def test_scores_of_lists_corrected_as_the_sentence_says_are_taken(tmp_path: Path) -> None:
    path, good = tmp_path / "scores.csv", all_scores("retrieval")
    first = SPLIT.retrieval_requests("test")[0][0]
    user, seen = first.user, first.history[0]
    wrong = {
        "keep one score for each user and item": pl.concat([good, good.head(1)]),
        "leave their rows out": pl.concat([good, good.head(1).with_columns(user=pl.lit("nobody"))]),
        "give each of them one at least": good.filter(pl.col("user") != user),
        "is not in the catalogue; leave such rows out": pl.concat(
            [good, good.head(1).with_columns(item=pl.lit("nothing"))]
        ),
        "give each row a score, or leave the row out": pl.concat(
            [good, good.head(1).with_columns(item=pl.lit("x"), score=pl.lit(None, pl.Float64))]
        ),
    }
    for words, scores in wrong.items():
        assert words in told(scores, path), words
    assert taken(good, path)
    known = pl.concat([good, pl.DataFrame([(user, seen, 9.0)], schema=good.schema, orient="row")])
    assert "leave such rows out, or give --drop-seen" in told(known, path)
    assert taken(known, path, drop_seen=True)
    only_known = known.filter((pl.col("user") != user) | (pl.col("item") == seen))
    assert "give one other item at least" in told(only_known, path, drop_seen=True)


@pytest.mark.parametrize("task", ["ranking", "rating"])
def test_scores_of_candidates_and_ratings_are_exactly_those_that_the_sentences_ask_for(
    tmp_path: Path, task: TaskName
) -> None:
    path, good = tmp_path / "scores.csv", all_scores(task)
    user = good["user"][0]
    asked = good.filter(pl.col("user") == user)["item"].to_list()
    other = next(item for item in SPLIT.dataset.item_ids if item not in asked)
    more = pl.concat([good, pl.DataFrame([(user, other, 1.0)], schema=good.schema, orient="row")])
    pair = r'item "(.+?)" of user "(.+?)" .+; '
    item, of_user = re.findall(f"{pair}leave such rows out", told(more, path, task))[0]
    assert taken(more.filter((pl.col("user") != of_user) | (pl.col("item") != item)), path, task)
    less = good.slice(1)
    message = told(less, path, task)
    if task == "ranking":
        item, of_user = re.findall(f"{pair}add it", message)[0]
    else:  # each user has one test rating
        (of_user,) = re.findall(r'no row for user "(.+?)", .+; give each of them one at least', message)
        item = asked[0]
    added = pl.DataFrame([(of_user, item, 1.0)], schema=good.schema, orient="row")
    assert taken(pl.concat([less, added]), path, task)


def test_columns_and_fields_of_a_score_file_are_named_as_the_sentence_says(tmp_path: Path) -> None:
    good, path = all_scores("retrieval"), tmp_path / "scores.csv"
    message = told(good.rename({"score": "relevance"}), path)
    assert "name its columns user, item and score" in message and taken(good, path)
    run = tmp_path / "theirs.run"
    run.write_text("u1 i1 3.0\n")
    with pytest.raises(ShelftalkError) as error:
        read_scores(run)
    fields = re.findall(r"\((user .+)\)", str(error.value))[0].split()
    values = {"user": "u1", "Q0": "Q0", "item": "i1", "rank": "1", "score": "3.0", "tag": "theirs"}
    run.write_text(" ".join(values[field] for field in fields) + "\n")
    assert read_scores(run).row(0) == ("u1", "i1", 3.0)
    for ending in re.findall(r"ends in (.+)\.$", str(error.value))[0].replace(" or ", ", ").split(", "):
        frame, other = pl.DataFrame({"user": ["u1"], "item": ["i1"], "score": [3.0]}), run.with_suffix(ending)
        if ending == ".parquet":
            frame.write_parquet(other)
        else:
            frame.write_csv(other, separator="\t" if ending == ".tsv" else ",")
        assert read_scores(other).row(0) == ("u1", "i1", 3.0)


def test_scores_answer_a_split_with_one_request_each(tmp_path: Path) -> None:
    world, path = tiny_world(), tmp_path / "scores.csv"
    all_scores("retrieval").write_csv(path)
    several = split_dataset(world, SplitSettings(scheme="leave_last_n", last=2), 0)
    with pytest.raises(ShelftalkError) as error:
        imported_answers(path, several, "retrieval")
    scheme = re.findall(r'split.scheme = "(\w+)"', str(error.value))[0]
    one_each = split_dataset(world, SplitSettings(scheme=scheme), 0)
    unseen = {
        request.user: next(item for item in world.item_ids if item not in request.history)
        for request in one_each.retrieval_requests("test")[0]
    }
    pl.DataFrame({"user": list(unseen), "item": list(unseen.values()), "score": 1.0}).write_csv(path)
    assert len(imported_answers(path, one_each, "retrieval").frame) == len(unseen)
