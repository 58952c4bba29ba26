"""The synthetic world: its facts hold in its histories, and nowhere else."""

import numpy as np
import polars as pl

from shelftalk.studies.probing.questions import KINDS
from shelftalk.studies.probing.references import reference_answers
from shelftalk.studies.probing.scoring import accuracies, difference
from shelftalk.studies.probing.world import WorldSettings, make_world


def _histories(world):
    return world.dataset.events.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list()


def _accuracy(split, questions, facts=None):
    """Model -> kind -> (accuracy, low, high)."""
    table = {}
    for row in accuracies(reference_answers(split, questions, 0, facts)):
        table.setdefault(row["model"], {})[row["kind"]] = row["accuracy"], row["low"], row["high"]
    return table


def test_the_first_of_a_pair_never_follows_the_second(generated):
    world, _, _ = generated
    for history in _histories(world):
        for first, second in world.facts.pairs:
            if first in history and second in history:
                assert history.index(first) < history.index(second)


def test_most_facts_hold_and_some_do_not(generated):
    world, _, _ = generated
    whole = broken = 0
    for history in _histories(world):
        for first, second in world.facts.pairs:
            if first in history:
                after = history[history.index(first) + 1]
                whole, broken = (whole + 1, broken) if after == second else (whole, broken + 1)
    assert 0.90 < whole / (whole + broken) < 0.99


def test_the_second_item_of_a_rule_is_at_its_distance(generated):
    world, _, _ = generated
    for rule in world.facts.rules:
        rows = [h for h in _histories(world) if rule.first in h and rule.second in h]
        kept = [h.index(rule.second) - h.index(rule.first) == rule.distance for h in rows]
        assert np.mean(kept) > 0.9
    assert {rule.distance for rule in world.facts.rules} == set(WorldSettings().distances)


def test_each_item_belongs_to_one_fact_of_one_half(generated):
    world, _, _ = generated
    halves = world.facts.items_of(0), world.facts.items_of(1)
    assert halves[0].isdisjoint(halves[1])
    assert halves[0] | halves[1] == set(world.dataset.item_ids)


def test_the_world_is_its_seeds(generated):
    world, split, _ = generated
    seed = next(s for s in range(3) if make_world(WorldSettings(), s).facts == world.facts)
    assert make_world(WorldSettings(), seed).dataset.fingerprint() == world.dataset.fingerprint()
    assert make_world(WorldSettings(), seed + 1).facts != world.facts


def test_no_option_is_in_the_history_and_one_is_the_answer(generated):
    _, _, questions = generated
    assert {question.kind for question in questions} == set(KINDS)
    for question in questions:
        assert question.answer in question.options
        assert not set(question.options) & set(question.history)
        assert len(set(question.history)) == len(question.history)


def test_options_are_alike_in_popularity_and_each_is_the_answer_as_often(generated):
    _, _, questions = generated
    answers = pl.DataFrame({"kind": [q.kind for q in questions], "answer": [q.answer for q in questions]})
    assert answers.group_by("kind", "answer").len()["len"].unique().to_list() == [4]


def test_popularity_is_at_chance_to_the_digit(generated):
    _, split, questions = generated
    for kind, (right, _, _) in _accuracy(split, questions)["popularity"].items():
        chance = next(question.chance for question in questions if question.kind == kind)
        assert abs(right - chance) < 0.02  # equal counts share a point


def test_the_oracle_is_right(generated):
    world, split, questions = generated
    assert all(right == 1.0 for right, _, _ in _accuracy(split, questions, world.facts)["oracle"].values())


def test_counting_who_took_both_is_far_above_chance(generated):
    _, split, questions = generated
    chance = {question.kind: question.chance for question in questions}
    for kind, (_, low, _) in _accuracy(split, questions)["item_knn"].items():
        assert low > chance[kind] + 0.15, kind


def test_the_texts_tell_nothing():
    """Over ten worlds, text alone is at chance: its interval over facts holds the chance, kind by kind."""
    from shelftalk.data.splitting import SplitSettings, split_leave_one_out
    from shelftalk.studies.probing.questions import world_questions

    frames = []
    for seed in range(10):
        world = make_world(WorldSettings(users=60), seed)
        split = split_leave_one_out(world.dataset, SplitSettings(ranking_negatives=9), seed)
        popularity = dict(zip(world.dataset.item_ids, split.popularity.tolist(), strict=True))
        frames.append(reference_answers(split, world_questions(world, popularity, 2, seed), seed))
    answers = pl.concat(frames)
    for row in accuracies(answers.filter(pl.col("model") == "text only")):
        assert abs(row["accuracy"] - row["chance"]) < 0.06, row


def test_a_text_that_named_the_makers_would_be_detected(generated):
    """The check above can go red: with the facts written into the titles, text alone answers."""
    from shelftalk.data.dataset import make_dataset
    from shelftalk.data.splitting import SplitSettings, split_leave_one_out

    world, _, questions = generated
    maker = {item: f"maker{number}" for shelf in world.facts.shelves for number, item in enumerate(shelf)}
    titles = pl.Series("title", [maker.get(item, "thing") for item in world.dataset.item_ids])
    with_makers = make_dataset(world.dataset.items.with_columns(titles), world.dataset.events, 0)
    split = split_leave_one_out(with_makers, SplitSettings(ranking_negatives=9), 0)
    right, _, _ = _accuracy(split, questions)["text only"]["maker"]
    assert right > 0.6


def test_a_difference_is_of_the_same_questions_or_refused(generated):
    import pytest

    _, split, questions = generated
    answers = reference_answers(split, questions, 0)
    knn, popular = (answers.filter(pl.col("model") == name) for name in ("item_knn", "popularity"))
    gap = difference(knn, popular)
    assert gap["low"] > 0.4
    assert gap["value"] == pl.Series(knn["right"] - popular["right"]).mean()
    with pytest.raises(ValueError, match="different questions"):
        difference(knn, popular.head(5))
