"""What every task shares: the context it reads, its templates, and one renderer.

A task turns a split and an item index into samples, by whole columns. It never sees a tokenizer, and what it
renders for training is, to the segment, what it renders at inference.

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
from shelftalk.records import Nouns, Request, Segment, Text
from shelftalk.settings import Role, Settings
from shelftalk.tasks.continued_training import Known
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.samples import NOBODY, Samples, Tables, joined
from shelftalk.tasks.templates import Template, check_templates, fill_columns, load_templates

CHUNK = 8192
"""Users, or items, whose samples are made at once: what bounds the memory of sample generation."""


class TaskSettings(Settings):
    """The settings that all tasks have."""

    weight: float = Field(1.0, ge=0)
    """How much of the task's own epoch goes into one epoch of the mixture: 1 all of it, 0.5 half, 2 twice, 0
    switches it off."""
    first_epochs: int = Field(0, ge=0)
    """Train the task in the first so many epochs alone, so that another one comes last; 0: in all of them."""
    max_history: int = Field(40, ge=1)
    """Most recent items shown in a prompt; older ones are dropped."""
    text_share: float = Field(1.0, ge=0, le=1)
    """Share of the training samples that show items' texts beside their names; the others show names alone,
    which costs far fewer tokens. Prompts of the trained model show texts where the share is 0.5 or more."""
    templates: Annotated[str | None, Role(changes_loss=True)] = None
    """A TOML file of your own templates in place of the built-in ones."""

    def trains_in(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, has samples of the task."""
        return self.weight > 0 and (not self.first_epochs or epoch < self.first_epochs)


@dataclass(frozen=True)
class TaskContext:
    """What samples are made of."""

    split: Split
    text: ItemText
    nouns: Nouns = field(default_factory=Nouns)
    seed: int = 0
    templates: Mapping[str, Sequence[Template]] = field(default_factory=dict)
    """Task name -> templates to use in place of its file, such as those that a model was trained with."""
    known: Known | None = None
    """What the model has learned already; of a training that goes on, samples hold what is new."""
    _rendered: dict[Any, Ragged] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def tables(self) -> Tables:
        """What the numbers in this context's samples stand for."""
        return Tables(self.split.dataset.item_ids, self.split.dataset.user_ids)

    def rendered_items(self, form: str, names_only: bool, bears_loss: bool = False) -> Ragged:
        """[I] every item as piece codes, rendered by the method `form` of ItemText: "name", "line",
        "before_rating" or "candidate"; with `names_only` without its text."""
        key = form, names_only, bears_loss
        if key not in self._rendered:
            render = getattr(self.text.names_only if names_only else self.text, form)
            rows = (
                render(item, True) if bears_loss else render(item) for item in self.split.dataset.item_ids
            )
            self._rendered[key] = ragged([self.tables.codes(row) for row in rows])
        return self._rendered[key]

    def item_variants(self, form: str) -> Ragged:
        """[4 I] all `rendered_items` of one form, stacked: I with text, I with names only, and the same 2 I
        bearing loss. [2 I] for the forms that never bear loss, which are all but "line" and "name". The row
        of an item is that of `variant_row`."""
        key = form, "all"
        if key not in self._rendered:
            losses = (False, True) if form in ("line", "name") else (False,)
            self._rendered[key] = vstack(
                [
                    self.rendered_items(form, names_only, loss)
                    for loss in losses
                    for names_only in (False, True)
                ]
            )
        return self._rendered[key]

    def variant_row(
        self, items: np.ndarray, names_only: np.ndarray, bears_loss: np.ndarray | bool
    ) -> np.ndarray:
        """[N] the rows of `item_variants` for N catalogue rows; `names_only` and `bears_loss` are [N] too."""
        return items + len(self.split.dataset.items) * (names_only + 2 * np.asarray(bears_loss, np.int64))

    @cached_property
    def user_symbols(self) -> tuple[str, ...]:
        """[U] the symbol of each user, a seeded permutation of numbers; none unless `text.user_ids` is on."""
        if not self.text.settings.user_ids:
            return ()
        users = self.split.dataset.user_ids
        return tuple(
            f"<u_{number}>" for number in seeds.generator(self.seed, "user numbers").permutation(len(users))
        )

    @cached_property
    def user_lines(self) -> Ragged:
        """[U + 1] the line that names each user; the last one, for an unknown user, is empty."""
        start = f"{self.nouns.person.capitalize()} "
        named = (
            (Segment(start), Segment(symbol, symbols=True), Segment("\n")) for symbol in self.user_symbols
        )
        return ragged([*(self.tables.codes(line) for line in named), []])

    @cached_property
    def user_number(self) -> dict[str, int]:
        """User id -> user number, of the users with a training event: others have a symbol that no sample
        shows."""
        users = self.split.dataset.user_ids
        return {users[number]: number for number in np.unique(self.split.training_users).tolist()}

    @cached_property
    def rating_texts(self) -> dict[float, str]:
        """The training part's rating values, ascending -> text, " 4.5": a leading space, one number of
        decimals for all, so that no text begins another; none where nothing can be rated. Raises
        SettingsError for values too close to distinguish."""
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
                f"the data has ratings that differ by less than {10.0**-decimals:g}; round them to "
                f"{decimals} decimals."
            )
        return texts

    def rating_text(self, value: float) -> str:
        """The text of the scale's nearest value: a held-out rating may be one that training never saw."""
        return self.rating_texts[min(self.rating_texts, key=lambda known: abs(known - value))]


@dataclass(frozen=True, eq=False)
class Layout:
    """How each of N samples is rendered: `user` [N] user number or -1, `template` [N] index into the task's
    templates, `names_only` [N] whether items are shown without their text."""

    user: np.ndarray
    template: np.ndarray
    names_only: np.ndarray
    texts: tuple[Text, ...] = ()
    """What histories of prompts hold in words; row -1 - n of a history is the text n."""


class Task(ABC):
    """One kind of sample. Subclasses declare the placeholders of their templates and render the samples."""

    name: ClassVar[str]
    settings_type: ClassVar[type[TaskSettings]]
    placeholders: ClassVar[tuple[str, ...]]
    answers: ClassVar[tuple[str, ...]] = ()
    """The placeholders of the target; without any, each placeholder may be anywhere in a template."""
    questions: ClassVar[tuple[str, ...]] = ()
    """The placeholders of the question, for a task whose templates have one."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Placeholders that a template may leave out."""
    needs_ratings: ClassVar[bool] = False
    """Whether the task is skipped, with a message, where the data has no ratings."""
    mentions_order: ClassVar[bool] = False
    """Whether the built-in templates mention an order; data without one has others, NAME_unordered."""
    about: ClassVar[Literal["users", "items"]] = "users"
    """What an epoch iterates over once: the users of the training part, or the items of the catalogue."""

    def __init__(self, settings: TaskSettings, context: TaskContext) -> None:
        self.settings = settings
        self.context = context
        self.prompts_names_only = settings.text_share < 0.5
        """Whether prompts of the trained model show items without their text."""
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
        """Name of the template file that is used where the settings name none."""
        return self.order_variant(self.name) if self.mentions_order else self.name

    def order_variant(self, name: str) -> str:
        """The template file of this name, or its unordered variant where histories have no order."""
        return name if self.context.split.dataset.ordered else f"{name}_unordered"

    @abstractmethod
    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        """The task's own epoch for some users (or items): once through what training may see of them.
        `numbers` are user numbers (or catalogue rows), ascending; `rng` is the only source of randomness.
        A task may also render records one by one, which is slower, and return
        `samples_of(records, self.context.tables)`."""

    def number_of_chunks(self) -> int:
        """Into how many chunks an epoch is divided: as many for every task of a context."""
        data = self.context.split.dataset
        return -(-max(len(data.user_ids), len(data.items)) // CHUNK)

    def chunk(self, epoch: int, number: int) -> Samples:
        """One chunk of `chunks`."""
        data, chunks = self.context.split.dataset, self.number_of_chunks()
        every = len(data.user_ids if self.about == "users" else data.items)
        size, larger = divmod(every, chunks)  # the first chunks have one more
        first = number * size + min(number, larger)
        numbers = np.arange(first, first + size + (number < larger))
        if self.about == "items" and self.context.known is not None:
            numbers = numbers[self.context.known.new_items[numbers]]
        return self.samples_about(numbers, epoch, number)

    def chunks(self, epoch: int) -> Iterator[Samples]:
        """Samples of one epoch of the mixture, some users at a time: the task's own epoch taken `weight`
        times.

        Depends on (data, settings, seed, epoch) alone. A fractional weight keeps a random share of that size.
        """
        return (self.chunk(epoch, number) for number in range(self.number_of_chunks()))

    def samples(self, epoch: int) -> Samples:
        """All samples of one epoch of the mixture, see `chunks`."""
        return joined(list(self.chunks(epoch)))

    def samples_about(self, numbers: np.ndarray, epoch: int, chunk: int = 0) -> Samples:
        """Samples of one epoch of the mixture for some users (or items), ascending: their own epoch taken
        `weight` times, none after `first_epochs`. `chunk` is part of the seed, so that chunks differ."""
        whole, rest = divmod(self.settings.weight if self.settings.trains_in(epoch) else 0.0, 1)
        rounds = [
            self.epoch(numbers, self._rng(epoch, chunk, turn)) for turn in range(int(whole) + (rest > 0))
        ]
        if rest > 0:
            last = rounds[-1]
            rng = self._rng(epoch, chunk, "share")
            kept = rng.permutation(len(last))[: int(len(last) * rest + rng.random())]
            rounds[-1] = last.take(np.sort(kept))
        return joined(rounds) if rounds else self.epoch(numbers[:0], self._rng(epoch, chunk))

    def _rng(self, *names: str | int) -> np.random.Generator:
        return seeds.generator(self.context.seed, "samples", self.name, *names)

    # The building blocks of samples.

    def layout(self, user: np.ndarray, rng: np.random.Generator) -> Layout:
        """Templates seen in training, and texts or names alone, drawn for samples of these users."""
        seen = np.array([self.templates.index(template) for template in self.seen])
        template = seen[rng.integers(len(seen), size=len(user))]
        return Layout(user, template, rng.random(len(user)) >= self.settings.text_share)

    def training_bounds(self, users: np.ndarray) -> np.ndarray:
        """[U, 2] event rows of the users' training histories, from : to. Of a training that goes on: the new
        events with at most `max_history` before them, and none of users without a new one."""
        bounds: np.ndarray = self.context.split.training_bounds[users]
        if self.context.known is None:
            return bounds
        since = self.context.known.since[users]
        first = np.maximum(bounds[:, 0], since - self.settings.max_history)
        return np.stack([np.where(since < bounds[:, 1], first, bounds[:, 1]), bounds[:, 1]], axis=1)

    def events(self, start: np.ndarray, stop: np.ndarray) -> Ragged:
        """[N] the catalogue rows of the event rows start : stop."""
        return slices(self.context.split.dataset.event_item.astype(np.int64), start, stop)

    def lines(
        self,
        items: Ragged,
        names_only: np.ndarray,
        first: np.ndarray | None = None,
        texts: Sequence[Text] = (),
    ) -> Ragged:
        """[N] histories, one line per item of `items` [N]; from position `first` [N] on the names bear loss,
        without `first` none does. What is below 0 in `items` is one of `texts`."""
        loss = False if first is None else items.positions >= np.repeat(first, items.lengths)
        names_only = np.repeat(names_only, items.lengths)
        return self.entries("line", items.values, names_only, loss, texts).merge_rows(items.offsets)

    def entries(
        self,
        form: str,
        items: np.ndarray,
        names_only: np.ndarray,
        loss: np.ndarray | bool,
        texts: Sequence[Text],
    ) -> Ragged:
        """[P] pieces of the catalogue rows `items` [P], each rendered by the method `form` of ItemText; of
        -1 - n, of the text n."""
        variants, rows = self.context.item_variants(form), self.context.variant_row(items, names_only, loss)
        known = items >= 0
        if known.all():
            return variants.take(rows)
        _, codes = self.context.text.text_pieces(texts)
        position = np.where(known, np.cumsum(known) - 1, known.sum() - 1 - items)
        return vstack([variants.take(rows[known]), ragged(codes[form])]).take(position)

    def fill(
        self, part: Literal["source", "question", "target"], layout: Layout, **columns: Ragged | str
    ) -> Ragged:
        """[N] that part of each sample's template with its placeholders replaced."""
        texts = [getattr(template, part) for template in self.templates]
        return fill_columns(
            texts, layout.template, {**self.context.nouns.placeholders(), **columns}, self.context.tables
        )

    def assemble(self, layout: Layout, items: Ragged, *text: Ragged) -> Samples:
        """The samples of these columns of text, one after the other; the line that names the user comes
        first, if users are shown."""
        if self.context.user_symbols:
            unknown = len(self.context.user_lines) - 1
            users = np.where(layout.user == NOBODY, unknown, layout.user)
            text = (self.context.user_lines.take(users), *text)
        tables = self.context.tables
        numbers = np.array([tables.template_number(self.name, template.name) for template in self.templates])
        if layout.texts:
            pieces, _ = self.context.text.text_pieces(layout.texts)
            tables, items = tables.with_texts(pieces), items.filter_values(items.values >= 0)
        return Samples(tables, hstack(text), items, layout.user, numbers[layout.template])


class ServedTask(Task):
    """A task that the trained model answers: retrieval, ranking, rating.

    Raises TemplateError for a template whose target does not begin with the answer: the prompt would lack
    the words that came before the answer in training.
    """

    def __init__(self, settings: TaskSettings, context: TaskContext) -> None:
        super().__init__(settings, context)
        for template in self.templates:
            if not template.target.startswith(tuple(f"{{{name}}}" for name in self.answers) or "{"):
                raise TemplateError(
                    f'the target of template "{template.name}" of the {self.name} task has words before the '
                    "answer; move them to the end of its source."
                )

    @abstractmethod
    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        """The text before each answer, the same to the segment as in training."""

    @abstractmethod
    def validation(self, positions: Sequence[int] | None = None) -> Samples:
        """The validation part as samples of the first training template, whose answer alone bears loss: one
        for each request, or for those at `positions` of `number_of_validation`."""

    @abstractmethod
    def number_of_validation(self) -> int:
        """How many requests the validation part has."""

    def prompt(self, request: Request, template: Template) -> list[Segment]:
        """The text before one answer."""
        return list(self.prompts([request], template)[0].segments)

    def prompt_layout(self, requests: Sequence[Request], template: Template) -> Layout:
        """The layout of prompts in one template."""
        number = len(requests)
        user = np.array(
            [self.context.user_number.get(request.user, NOBODY) for request in requests], np.int64
        )
        index = np.full(number, self.templates.index(template))
        return Layout(user, index, np.full(number, self.prompts_names_only), texts_of(requests))

    def rows_of(self, items: Sequence[Sequence[str]]) -> Ragged:
        """[N] catalogue rows of item ids. Raises KeyError for an item that is not in the catalogue."""
        row_of = self.context.split.dataset.row_of
        values = np.fromiter((row_of[item] for row in items for item in row), np.int64)
        return Ragged(values, offsets_of([len(row) for row in items]))

    def histories(self, requests: Sequence[Request]) -> Ragged:
        """[N] the most recent entries of each history, as catalogue rows; below 0 what is a text (see
        Layout)."""
        recent = [request.history[-self.settings.max_history :] for request in requests]
        if not (texts := texts_of(requests)):
            return self.rows_of(recent)
        row_of = self.context.split.dataset.row_of
        of_text = {text: -1 - number for number, text in enumerate(texts)}
        return ragged(
            [of_text[entry] if isinstance(entry, Text) else row_of[entry] for entry in history]
            for history in recent
        )

    def answer_names(self, items: np.ndarray, layout: Layout) -> Ragged:
        """[N] the names of catalogue rows `items` [N], bearing loss."""
        return self.context.item_variants("name").take(
            self.context.variant_row(items, layout.names_only, True)
        )


def texts_of(requests: Sequence[Request]) -> tuple[Text, ...]:
    """The distinct texts of the histories, in the order of their first occurrence."""
    entries = (entry for request in requests for entry in request.history if isinstance(entry, Text))
    return tuple(dict.fromkeys(entries))


def singletons(values: np.ndarray) -> Ragged:
    """[N] rows of one value each."""
    return Ragged(values, np.arange(len(values) + 1, dtype=np.int64))
