import pytest

from shelftalk.report import numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.1234, ".1234"), (0, ".0000"), (0.0, ".0000"), (1.02344, "1.0234"), (0.99999, "1.0000"),
     (-0.0123, "−.0123"), (-0.00001, ".0000"), (None, "–"), (float("nan"), "–"), (float("inf"), "–")],
)  # fmt: skip
def test_metrics_are_written_in_the_recommender_convention(value, expected: str) -> None:
    assert numbers.figure(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0119, "+.0119"), (-0.0119, "−.0119"), (0.0, "+.0000"), (None, "–")]
)
def test_differences_carry_their_sign(value, expected: str) -> None:
    assert numbers.signed(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.0 s"), (4.21, "4.2 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (151, "2 min 31 s"),
     (3599.7, "1 h 00 min"), (3840, "1 h 04 min"), (None, "–"), (float("nan"), "–")],
)  # fmt: skip
def test_durations_are_written_for_people(seconds, expected: str) -> None:
    assert numbers.duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (671, "671"),
        (12101, "12,101"),
        (True, "yes"),
        (7.7, "7.7"),
        (None, "–"),
        ("", "–"),
        (float("nan"), "–"),
        (0, "0"),
    ],
)
def test_facts_of_every_type_are_written(value, expected: str) -> None:
    assert numbers.fact(value) == expected


def test_metric_names_are_spelt_as_the_field_spells_them() -> None:
    names = ("recall@10", "ndcg@5", "hr@1", "mrr", "rmse")
    assert list(map(numbers.metric_name, names)) == ["Recall@10", "NDCG@5", "HR@1", "MRR", "RMSE"]


@pytest.mark.parametrize("text", ["a" * 10_000, "a" * 121, " " * 9000 + "tail", "a\n\tb"])
def test_shortened_texts_are_one_line_of_the_given_length(text: str) -> None:
    short = numbers.shorten(text)
    assert len(short) <= 120 and "\n" not in short and "\t" not in short
    assert short.endswith("…") == (len(text) > 120)


def test_an_interval_is_written_whole_or_not_at_all() -> None:
    assert numbers.interval((0.1, 0.2)) == "[.1000, .2000]"
    assert numbers.interval((None, 0.2)) == numbers.interval(None) == ""


def test_a_long_excerpt_says_how_much_is_missing() -> None:
    assert numbers.excerpt("x" * 1500) == "x" * 1500
    assert numbers.excerpt("x" * 10_000).endswith("… [8,500 more characters]")


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0002, "< .001"), (0.026, ".026"), (1.0, "1.000"), (None, "–")]
)
def test_p_values_are_never_zero(p, expected: str) -> None:
    assert numbers.p_value(p) == expected
