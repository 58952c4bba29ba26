"""The report as Markdown: the same sentences and tables as the page, without plots.

Foreign text (titles, samples) goes through `escaped` or into a fence longer than any in the text, so it can
neither break a table nor become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from shelftalk.records import Segment
from shelftalk.report import numbers, tables
from shelftalk.report.content import Fact, ReportContent, ShownSample, ShownUser, TaskResults
from shelftalk.report.summary import leader_sentences, summary
from shelftalk.report.tables import Cell, Table

MARKUP = re.compile(r"([\\`*\[\]|~#<>])")
ISOLATE, POP_ISOLATE = "\u2068", "\u2069"  # keep right-to-left text from reordering the text around it
SENTENCES = 900
"""Where a cell of a table holds sentences, it is cut at so many characters."""
LOSS_START, LOSS_END = "⟦", "⟧"


def render_markdown(content: ReportContent) -> str:
    """The report as GitHub-flavoured Markdown."""
    sections = (
        _header(content), _results(content), _costs(content), _published(content), _users(content),
        _slices(content), _held_out_templates(content), _search_error(content), _ablations(content),
        _caveats(content), _certificate(content), _training(content), _samples(content),
        _facts("The data", content.data, [*content.left_out, *content.data_notes]), _probes(content),
        _run_it_again(content),
    )  # fmt: skip
    return "\n\n".join(block for section in sections for block in section) + "\n"


def page_of(name: str, summary: str, shown: Mapping[str, Table], sentences: Iterable[str]) -> str:
    """A comparison of trainings as Markdown: the summary, the tables by their titles, and how
    to read them."""
    blocks = [f"# {escaped(name)}", escaped(summary, 2000)]
    for title, table in shown.items():
        blocks += [f"## {title}", markdown_table(table)]
    blocks += ["## How to read it", _bullets(sentences, 900)]
    return "\n\n".join(blocks) + "\n"


def escaped(text: str, limit: int = 120) -> str:
    """Foreign text as one line of plain Markdown."""
    line = MARKUP.sub(r"\\\1", numbers.shorten(text, limit).replace("&", "&amp;"))
    return f"{ISOLATE}{line}{POP_ISOLATE}" if numbers.needs_isolation(line) else line


def markdown_table(table: Table, limit: int = 120) -> str:
    """The table in pipes, numbers to the right; marked values are bold. Cells are cut at
    `limit` characters."""
    rules = ("---" if position < table.words else "---:" for position in range(len(table.columns)))
    lines = [
        map(escaped, table.columns),
        rules,
        *((_cell(cell, limit) for cell in row) for row in table.rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(cell: Cell, limit: int) -> str:
    text = f"**{escaped(cell.text)}**" if cell.best else escaped(cell.text, limit)
    return f"{text} {escaped(cell.note)}" if cell.note else text


def _bullets(sentences: Iterable[str], limit: int = 600) -> str:
    return "\n".join(f"- {escaped(sentence, limit)}" for sentence in sentences)


def _header(content: ReportContent) -> list[str]:
    origin = f"{content.when} · seed {content.seed} · shelftalk {content.version}"
    warnings = [f"> **Warning:** {escaped(sentence, 600)}" for sentence in content.warnings]
    return [f"# {escaped(content.title)}", *warnings, escaped(origin), escaped(summary(content), 2000)]


def _results(content: ReportContent) -> list[str]:
    blocks = ["## Results"] if content.tasks or content.left_out else []
    for task in content.tasks:
        blocks += _task(task)
    if content.left_out:
        blocks.append(_bullets(content.left_out))
    if content.chosen and not content.costs:
        blocks += ["### Chosen on validation", _bullets(content.chosen)]
    return blocks


def _task(task: TaskResults) -> list[str]:
    means = f"{task.protocol} Means over {numbers.count(task.n)} {task.unit}, 95 % intervals in brackets."
    blocks = [
        f"### {escaped(numbers.title(task.task))}",
        escaped(means, 800),
        markdown_table(tables.result_table(task)),
    ]
    if sentences := leader_sentences(task):
        blocks.append(_bullets(sentences))
    if task.differences:
        blocks += ["Paired differences, first minus second:", markdown_table(tables.difference_table(task))]
    if task.of_lists:
        blocks += ["Beyond accuracy:", markdown_table(tables.list_table(task))]
        blocks.append(_bullets(tables.list_sentences(task)))
    return blocks


def _costs(content: ReportContent) -> list[str]:
    if not content.costs:
        return []
    table = markdown_table(tables.cost_table(content.costs), SENTENCES)
    return ["## Choices and costs", escaped(content.costs_note, 600), table]


def _ablations(content: ReportContent) -> list[str]:
    blocks = ["## Ablations"] if content.ablations else []
    for ablation in content.ablations:
        link = f"[Its own report]({quote(ablation.page)})"
        blocks += [
            f"### {escaped(ablation.name)}",
            f"{escaped(ablation.summary, 300)} {link}",
            markdown_table(tables.ablation_table(ablation)),
        ]
    return blocks


def _published(content: ReportContent) -> list[str]:
    if not content.published_note:
        return []
    blocks = ["## Published numbers under the same protocol", escaped(content.published_note, 1200)]
    for table in content.published:
        blocks += [
            f"### {escaped(table.dataset)}",
            escaped(table.protocol, 800),
            markdown_table(tables.published_table(table)),
        ]
    if content.elsewhere:
        blocks += ["## Printed elsewhere, on other or unknown terms", escaped(tables.ELSEWHERE, 600)]
    for other in content.elsewhere:
        heading = f"{numbers.title(other.task)}: {other.dataset}"
        blocks += [f"### {escaped(heading)}", markdown_table(tables.elsewhere_table(other))]
    return blocks


def _users(content: ReportContent) -> list[str]:
    if not content.users:
        return []
    note = [escaped(content.users_note, 600)] if content.users_note else []
    return ["## People", *note, *(block for user in content.users for block in _user(user))]


def _user(user: ShownUser) -> list[str]:
    earlier = (
        [f"- … and {numbers.count(user.earlier)} {'earlier' if user.ordered else 'more'}"]
        if user.earlier
        else []
    )
    taken = "taken next" if user.ordered else "taken too"
    history = "\n".join(earlier + [f"- {escaped(line)}" for line in user.history])
    top = "\n".join(
        f"{position}. "
        f"{escaped(line.line)} ({numbers.score(line.score)}){f' **← {taken}**' if line.hit else ''}"
        for position, line in enumerate(user.top, start=1)
    )
    heading = "Took next" if user.ordered else "Took too"
    truth = f"{heading}: {escaped(user.truth)} ({tables.rank_of_truth(user)})"
    return [f"### {escaped(user.label)}", history, f"{escaped(user.model)} recommends:", top, truth]


def _slices(content: ReportContent) -> list[str]:
    blocks = ["## Slices", escaped(tables.SLICES, 600)] if content.slices else []
    for group in tables.slice_groups(content):
        heading = f"{numbers.title(group.task)}: {numbers.metric_name(group.metric)} by {group.kind}"
        blocks += [f"### {escaped(heading)}", markdown_table(tables.slice_table(group))]
    return blocks


def _held_out_templates(content: ReportContent) -> list[str]:
    note = [escaped(content.held_out_templates_note, 800)] if content.held_out_templates_note else []
    table = (
        [markdown_table(tables.template_table(content.held_out_templates))]
        if content.held_out_templates
        else []
    )
    return ["## Held-out templates", *note, *table] if note or table else []


def _search_error(content: ReportContent) -> list[str]:
    table = [markdown_table(tables.search_error_table(content.search_error))] if content.search_error else []
    return ["## Search", escaped(content.search_error_note, 800), *table] if content.search_error_note else []


def _caveats(content: ReportContent) -> list[str]:
    sentences = tables.caveats(content)
    return ["## Limits of these numbers", _bullets(sentences)] if sentences else []


def _certificate(content: ReportContent) -> list[str]:
    if not content.facts:
        return []
    pairs = tables.certified_facts(content)
    lines = "\n".join(f"- **{escaped(name)}**: {escaped(text, 900)}" for name, text in pairs)
    return ["## Certificate", f"Fingerprint `{numbers.shorten(content.certificate)}`.", lines]


def _training(content: ReportContent) -> list[str]:
    blocks = _facts("The model", content.model, ())
    if content.stages:
        blocks += ["### Time", markdown_table(tables.stage_table(content.stages))]
    return blocks


def _facts(heading: str, mapping: Mapping[str, Fact], notes: Sequence[str]) -> list[str]:
    if not mapping:
        return []
    rows = tuple((Cell(label), Cell(value)) for label, value in tables.facts(mapping))
    return [
        f"## {heading}",
        markdown_table(Table(("fact", "value"), rows, words=2)),
        *([_bullets(notes)] if notes else []),
    ]


def _probes(content: ReportContent) -> list[str]:
    if not content.data_probes:
        return []
    return [f"### {tables.PROBES}", _bullets(content.data_probes)]


def _samples(content: ReportContent) -> list[str]:
    if not content.samples:
        return []
    legend = f"The model is trained to produce the text between {LOSS_START} and {LOSS_END}."
    return ["## Samples", legend, *(block for sample in content.samples for block in _sample(sample))]


def _sample(sample: ShownSample) -> list[str]:
    text = "".join(map(_segment, sample.segments))
    return [f"### {escaped(numbers.title(sample.task))} · {escaped(sample.template)}", _fenced(text, "text")]


def _segment(segment: Segment) -> str:
    text = numbers.excerpt(segment.text)
    return f"{LOSS_START}{text}{LOSS_END}" if segment.bears_loss else text


def _run_it_again(content: ReportContent) -> list[str]:
    blocks = [*_facts("The machine", content.machine, ()), "## Run it again", _fenced(content.command, "sh")]
    if content.settings:
        blocks.append(_fenced(content.settings, "toml"))
    if content.links:
        blocks.append("\n".join(f"- [{escaped(link.label)}]({quote(link.path)})" for link in content.links))
    return blocks


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than every run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{numbers.printable(text).strip()}\n{fence}"
