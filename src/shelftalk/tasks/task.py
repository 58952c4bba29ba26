"""What every task shares: the context it reads, its wordings, and one renderer.

A task turns a split and an item index into samples, by whole columns. It never sees a tokenizer, and what it
renders for training is, to the segment, what it renders when the model is asked.

Legend: N samples, U users, I items, E events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from shelftalk import seeds
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError, TemplateError
from shelftalk.ragged import Ragged, hstack, offsets_of, ragged, slices, vstack
from shelftalk.records import Request, Segment
from shelftalk.settings import Role, Settings
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.samples import NOBODY, Samples, Tables, joined
from shelftalk.tasks.templates import Template, Words, check_templates, fill_columns, load_templates

CHUNK = 8192
"""Users, or items, whose samples are made at once: what bounds the memory of sample generation."""


class TaskSettings(Settings):
    """What every task can be told."""

    weight: float = Field(1.0, ge=0)
    """How much of the task's own epoch goes into one epoch of the mixture: 1 all of it, 0.5 half, 2 twice, 0
    switches it off."""
    max_history: int = Field(40, ge=1)
    """Most recent items shown in a prompt; older ones are dropped."""
    text_share: float = Field(1.0, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names; the others show names alone,
    which costs far fewer tokens. The finished model is shown texts where the share is at least one half."""
    templates: Annotated[str | None, Role(changes_loss=True)] = None
    """A TOML file of your own wordings in place of the built-in ones."""


@dataclass(frozen=True)
class TaskContext:
    """What samples are made of."""

    split: Split
    text: ItemText
    words: Words = field(default_factory=Words)
    seed: int = 0
    templates: Mapping[str, Sequence[Template]] = field(default_factory=dict)
    """By a task's name: what stands in for the file of its templates, such as those that a model was trained
    with."""
    _forms: dict[Any, Ragged] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def tables(self) -> Tables:
        """What the numbers in this context's samples stand for."""
        return Tables(self.split.dataset.item_ids, self.split.dataset.user_ids)

    def items_as(self, form: str, bare: bool, bears_loss: bool = False) -> Ragged:
        """[I] every item as piece codes, in a form of ItemText: "name", "line", "asked" or "listed"; `bare`:
        without its text."""
        key = form, bare, bears_loss
        if key not in self._forms:
            render = getattr(self.text.bare if bare else self.text, form)
            rows = (
                render(item, True) if bears_loss else render(item) for item in self.split.dataset.item_ids
            )
            self._forms[key] = ragged([self.tables.codes(row) for row in rows])
        return self._forms[key]

    def forms(self, form: str) -> Ragged:
        """[4 I] a form of every item four times over: with text, bare, and both again bearing loss (a line or
        a name alone; nothing else ever bears loss). See `form_row`."""
        key = form, "all"
        if key not in self._forms:
            losses = (False, True) if form in ("line", "name") else (False,)
            self._forms[key] = vstack(
                [self.items_as(form, bare, loss) for loss in losses for bare in (False, True)]
            )
        return self._forms[key]

    def form_row(self, items: np.ndarray, bare: np.ndarray, bears_loss: np.ndarray | bool) -> np.ndarray:
        """The rows of `forms` for catalogue rows, all arrays of one length."""
        return items + len(self.split.dataset.items) * (bare + 2 * np.asarray(bears_loss, np.int64))

    @cached_property
    def user_symbols(self) -> tuple[str, ...]:
        """[U] the users' names to the model, a seeded permutation of numbers; none unless `text.user_ids` is
        on."""
        if not self.text.settings.user_ids:
            return ()
        users = self.split.dataset.user_ids
        return tuple(
            f"<u_{number}>" for number in seeds.generator(self.seed, "user numbers").permutation(len(users))
        )

    @cached_property
    def user_lines(self) -> Ragged:
        """[U + 1] the line that names a user; the last one, a stranger's, is empty."""
        start = f"{self.words.person.capitalize()} "
        named = (
            (Segment(start), Segment(symbol, symbols=True), Segment("\n")) for symbol in self.user_symbols
        )
        return ragged([*(self.tables.codes(line) for line in named), []])

    @cached_property
    def user_number(self) -> dict[str, int]:
        """User id -> user number."""
        return {user: number for number, user in enumerate(self.split.dataset.user_ids)}

    @cached_property
    def rating_texts(self) -> dict[float, str]:
        """The training part's rating values, ascending -> text, " 4.5": a leading space, one number of
        decimals for all, so that no text begins another; none where nothing can be rated. Raises
        SettingsError for values too close to tell."""
        if self.split.why_no_rating_task:
            return {}
        visible = self.split.visible_rating
        values = np.unique(visible[~np.isnan(visible)]).tolist()
        decimals = max((len(f"{value:g}".partition(".")[2]) for value in values), default=0)
        if len({len(f"{value:.0f}") for value in values}) > 1:
            decimals = max(decimals, 1)  # " 1" would begin " 10"; " 1.0" does not begin " 10.0"
        texts = {value: f" {value:.{decimals}f}" for value in values}
        if len(set(texts.values())) < len(texts):
            raise SettingsError(
                f"the data has ratings that differ by less than {10.0**-decimals:g}; round them."
            )
        return texts

    def rating_text(self, value: float) -> str:
        """The text of the scale's nearest value: a held-out rating may be one that training never saw."""
        return self.rating_texts[min(self.rating_texts, key=lambda known: abs(known - value))]


@dataclass(frozen=True, eq=False)
class Frame:
    """What frames each of N samples: `user` [N] user number or -1, `wording` [N] the place of its template
    among the task's, `bare` [N] whether items stand by name alone."""

    user: np.ndarray
    wording: np.ndarray
    bare: np.ndarray


class Task(ABC):
    """One kind of sample. Subclasses say which placeholders their wordings have and how samples are
    rendered."""

    name: ClassVar[str]
    settings_type: ClassVar[type[TaskSettings]]
    placeholders: ClassVar[tuple[str, ...]]
    answers: ClassVar[tuple[str, ...]] = ()
    """Those of them that stand in the target; without any named, each may stand anywhere in a wording."""
    questions: ClassVar[tuple[str, ...]] = ()
    """Those of them that stand in the question, for a task that asks one."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Placeholders that a wording may leave out."""
    needs_ratings: ClassVar[bool] = False
    """Left out, and said so, where the data has no ratings."""
    speaks_of_order: ClassVar[bool] = False
    """Whether the built-in wordings speak of an order, and others (NAME_unordered) stand in for data without
    one."""
    about: ClassVar[Literal["users", "items"]] = "users"
    """What an epoch goes through once: the users of the training part, or the items of the catalogue."""

    def __init__(self, settings: TaskSettings, context: TaskContext) -> None:
        self.settings = settings
        self.context = context
        self.asked_bare = settings.text_share < 0.5
        """How items stand in the prompts of the finished model."""
        kinds = (self.optional, self.answers, self.questions)
        self.templates = list(context.templates.get(self.name, ()))
        if self.templates:
            check_templates(self.templates, f"the templates of {self.name}", self.placeholders, *kinds)
        else:
            self.templates = load_templates(
                self.built_in_templates, self.placeholders, settings.templates, *kinds
            )
        self.seen = [template for template in self.templates if not template.held_out]
        self.held_out = [template for template in self.templates if template.held_out]

    @property
    def built_in_templates(self) -> str:
        """Name of the file of wordings that stands in where the settings name none."""
        return self.for_the_order(self.name) if self.speaks_of_order else self.name

    def for_the_order(self, wordings: str) -> str:
        """The file of wordings, or the one that stands in for it where histories have no order."""
        return wordings if self.context.split.dataset.ordered else f"{wordings}_unordered"

    @abstractmethod
    def epoch(self, numbers: np.ndarray, draw: np.random.Generator) -> Samples:
        """The task's own epoch for some users (or items): once through what training may see of them.
        `numbers` are user numbers (or catalogue rows), ascending; `draw` is all the chance there is. A task
        in no hurry may render records one by one and return `samples_of(records, self.context.tables)`."""

    def chunks(self, epoch: int) -> Iterator[Samples]:
        """Samples of one epoch of the mixture, some users at a time: the task's own epoch taken `weight`
        times.

        Depends on (data, settings, seed, epoch) alone. A fractional weight keeps that share, drawn by chance.
        """
        data = self.context.split.dataset
        size = -(-max(len(data.user_ids), len(data.items)) // CHUNK)
        for chunk, numbers in enumerate(
            np.array_split(np.arange(len(data.user_ids if self.about == "users" else data.items)), size)
        ):
            yield self.samples_about(numbers, epoch, chunk)

    def samples(self, epoch: int) -> Samples:
        """All samples of one epoch of the mixture, see `chunks`."""
        return joined(list(self.chunks(epoch)))

    def samples_about(self, numbers: np.ndarray, epoch: int, chunk: int = 0) -> Samples:
        """Samples of one epoch of the mixture for some users (or items), ascending: their own epoch taken
        `weight` times. `chunk` keeps apart the chance of those that are made one after another."""
        whole, rest = divmod(self.settings.weight, 1)
        rounds = [
            self.epoch(numbers, self._draw(epoch, chunk, turn)) for turn in range(int(whole) + (rest > 0))
        ]
        if rest > 0:
            last = rounds[-1]
            draw = self._draw(epoch, chunk, "share")
            kept = draw.permutation(len(last))[: int(len(last) * rest + draw.random())]
            rounds[-1] = last.take(np.sort(kept))
        return joined(rounds) if rounds else self.epoch(numbers[:0], self._draw(epoch, chunk))

    def _draw(self, *names: str | int) -> np.random.Generator:
        return seeds.generator(self.context.seed, "samples", self.name, *names)

    # --- what samples are put together from
    # ----------------------------------------------------------------------------

    def frame(self, user: np.ndarray, draw: np.random.Generator) -> Frame:
        """Wordings seen in training, and texts or names alone, drawn for samples of these users."""
        seen = np.array([self.templates.index(template) for template in self.seen])
        wording = seen[draw.integers(len(seen), size=len(user))]
        return Frame(user, wording, draw.random(len(user)) >= self.settings.text_share)

    def training_bounds(self, users: np.ndarray) -> np.ndarray:
        """[U, 2] event rows of the users' training histories, from : to."""
        return self.context.split.training_bounds[users]

    def events(self, start: np.ndarray, stop: np.ndarray) -> Ragged:
        """[N] the catalogue rows of the event rows start : stop."""
        return slices(self.context.split.dataset.event_item.astype(np.int64), start, stop)

    def lines(self, items: Ragged, bare: np.ndarray, first: np.ndarray | None = None) -> Ragged:
        """[N] histories, one line per item of `items` [N]; from place `first` [N] on the names bear loss, or
        none does."""
        loss = False if first is None else items.positions >= np.repeat(first, items.lengths)
        rows = self.context.form_row(items.values, np.repeat(bare, items.lengths), loss)
        return self.context.forms("line").take(rows).merge_rows(items.offsets)

    def fill(
        self, part: Literal["source", "question", "target"], frame: Frame, **columns: Ragged | str
    ) -> Ragged:
        """[N] that part of each sample's wording with its placeholders replaced."""
        texts = [getattr(template, part) for template in self.templates]
        return fill_columns(
            texts, frame.wording, {**self.context.words.values(), **columns}, self.context.tables
        )

    def made(self, frame: Frame, items: Ragged, *text: Ragged) -> Samples:
        """Finished samples: the columns of text side by side behind the user's own line, if users are
        shown."""
        if self.context.user_symbols:
            strangers = len(self.context.user_lines) - 1
            text = (
                self.context.user_lines.take(np.where(frame.user == NOBODY, strangers, frame.user)),
                *text,
            )
        wordings = np.array(
            [self.context.tables.wording(self.name, template.name) for template in self.templates]
        )
        return Samples(self.context.tables, hstack(text), items, frame.user, wordings[frame.wording])


class ServedTask(Task):
    """A task that is also asked of the finished model.

    Raises TemplateError for a wording whose target does not begin with the answer: the model would be asked
    without the words that stood before it in training.
    """

    def __init__(self, settings: TaskSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        for template in self.templates:
            if not template.target.startswith(tuple(f"{{{name}}}" for name in self.answers) or "{"):
                raise TemplateError(
                    f'the target of template "{template.name}" of the {self.name} task has words before the answer; '
                    "move them to the end of its source."
                )

    @abstractmethod
    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        """The text before each answer, the same to the segment as in training."""

    @abstractmethod
    def validation(self) -> Samples:
        """The validation part as samples whose answer alone bears loss, in the first seen wording."""

    def prompt(self, request: Request, template: Template) -> list[Segment]:
        """The text before one answer."""
        return list(self.prompts([request], template)[0].segments)

    def asked(self, requests: Sequence[Request], template: Template) -> Frame:
        """The frame of questions to the finished model."""
        number = len(requests)
        user = np.array(
            [self.context.user_number.get(request.user, NOBODY) for request in requests], np.int64
        )
        wording = np.full(number, self.templates.index(template))
        return Frame(user, wording, np.full(number, self.asked_bare))

    def rows_of(self, items: Sequence[Sequence[str]]) -> Ragged:
        """[N] catalogue rows of item ids. Raises KeyError for an item that is not in the catalogue."""
        row_of = self.context.split.dataset.row_of
        values = np.fromiter((row_of[item] for row in items for item in row), np.int64)
        return Ragged(values, offsets_of([len(row) for row in items]))

    def shown(self, requests: Sequence[Request]) -> Ragged:
        """[N] the most recent items of each history, as catalogue rows."""
        return self.rows_of([request.history[-self.settings.max_history :] for request in requests])

    def named(self, items: np.ndarray, frame: Frame) -> Ragged:
        """[N] names that bear loss, of catalogue rows `items` [N]."""
        return self.context.forms("name").take(self.context.form_row(items, frame.bare, True))


def one_each(values: np.ndarray) -> Ragged:
    """[N] rows of one value."""
    return Ragged(values, np.arange(len(values) + 1, dtype=np.int64))
