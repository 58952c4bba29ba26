"""`text.user_ids`: prompts name the users that were trained on, by symbols without information, and no one
else."""

from __future__ import annotations

from dataclasses import replace

from shelftalk.data.splitting import SplitSettings, split_dataset
from shelftalk.records import Segment
from shelftalk.tasks.item_text import TextSettings
from shelftalk.tasks.masked_language import MaskedLanguage, MaskedLanguageSettings
from shelftalk.tasks.ranking import RankingSettings, RankingTask
from shelftalk.tasks.rating import RatingSettings, RatingTask
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.task import ServedTask, TaskContext
from shelftalk.testing.task_exams import exam_context, world_split
from shelftalk.testing.worlds import tiny_world
from tests.tasks.answers import FULL


def context(on: bool = True, seed: int = 0) -> TaskContext:
    return exam_context(world_split("tiny"), seed=seed, text=TextSettings(user_ids=on))


def served(about: TaskContext) -> list[ServedTask]:
    return [
        RetrievalTask(RetrievalSettings(**FULL), about),
        RankingTask(RankingSettings(**FULL), about),
        RatingTask(RatingSettings(**FULL), about),
    ]


def test_symbols_are_a_permutation_that_depends_on_the_seed_and_is_not_the_order_of_users():
    symbols = context().user_symbols
    numbers = [int(symbol.removeprefix("<u_").removesuffix(">")) for symbol in symbols]
    assert sorted(numbers) == list(range(60)) and numbers != sorted(numbers)
    assert symbols == context().user_symbols != context(seed=1).user_symbols


def test_a_known_user_is_named_in_the_first_line_and_an_unknown_user_is_not():
    on, off = context(), context(on=False)
    symbol = dict(zip(on.split.dataset.user_ids, on.user_symbols, strict=True))
    request = on.split.ranking_requests("validation")[0][3]
    request = replace(request, item=request.candidates[0])
    for named, plain in zip(served(on), served(off), strict=True):
        for template in named.templates:
            without = plain.prompt(request, template)
            line = [Segment("Customer "), Segment(symbol[request.user], symbols=True), Segment("\n")]
            assert named.prompt(request, template) == [*line, *without]
            assert named.prompt(replace(request, user="unknown"), template) == without
            assert named.prompt(replace(request, user=""), template) == without


def test_a_user_of_whom_nothing_trained_is_named_in_no_prompt():
    split = split_dataset(tiny_world(), SplitSettings(scheme="by_user"), 0)
    about = exam_context(split, text=TextSettings(user_ids=True))
    shown = {sample.user for sample in served(about)[0].samples(0)}
    requests, _ = split.retrieval_requests("test")
    task = served(about)[0]
    assert len(requests) == 6 and not shown & {request.user for request in requests}
    for request in requests:
        assert task.prompt(request, task.seen[0]) == task.prompt(replace(request, user=""), task.seen[0])


def test_known_and_unknown_users_may_be_in_one_batch():
    about = context()
    requests = [
        replace(request, user=request.user if n % 2 else "")
        for n, request in enumerate(about.split.retrieval_requests("test")[0])
    ]
    task = served(about)[0]
    shown = [sample.segments[1].text.startswith("<u_") for sample in task.prompts(requests, task.seen[0])]
    assert shown == [bool(n % 2) for n in range(60)]


def test_nothing_is_shown_or_known_when_off():
    about = context(on=False)
    assert about.user_symbols == ()
    for task in [*served(about), MaskedLanguage(MaskedLanguageSettings(**FULL), about)]:
        assert not any(
            "<u_" in sample.text or "Customer " in sample.text.split("\n")[0] for sample in task.samples(0)
        )


def test_naming_users_changes_nothing_but_the_first_line():
    for named, plain in zip(served(context()), served(context(on=False)), strict=True):
        for one, other in zip(named.samples(0), plain.samples(0), strict=True):
            assert one.segments[3:] == other.segments and (one.user, one.items) == (other.user, other.items)


def test_the_line_that_names_the_user_is_never_masked_and_bears_no_loss():
    for sample in MaskedLanguage(MaskedLanguageSettings(**FULL, share=0.9), context()).samples(0):
        assert sample.segments[1].text.startswith("<u_") and not any(
            segment.bears_loss for segment in sample.segments[:3]
        )
