"""Every setting is in the inputs of the stages that read it, and of no other: what a figure stands on is in
the manifests, all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from shelftalk import parts, stages
from shelftalk.data.splitting import Split
from shelftalk.experiment import Experiment
from shelftalk.runtime.run_folder import RunFolder, StageRecord
from shelftalk.settings import Settings

OWN, OWN_ON_TRAINING = "test_stage_inputs:fit_own", "test_stage_inputs:ON_TRAINING"
LM = {"recommend.aligned", "recommend.aligned+prior"}
ASKED = {f"recommend.{name}" for name in (*parts.MODELS, OWN, OWN_ON_TRAINING)}


def fit_own(split: Split, settings: Settings, seed: int) -> Any:
    """A baseline of one's own; no test calls it."""


ON_TRAINING = parts.Model(fit_own, stands_on="train")
READ_BY: dict[str, set[str]] = {
    "name": set(),
    "seed": {"prepare", "index", "write", "train", *ASKED, "evaluate"},
    "models": {"evaluate"},
    "data": {"prepare"},
    "data.interactions": {"prepare", "write"},  # the nouns of prompts go by the source
    "data.folder": {"prepare", "write"},
    "data.bundled": {"prepare", "write"},
    "data.item_noun": {"write"},
    "data.items_noun": {"write"},
    "data.user_noun": {"write"},
    "data.took": {"write"},
    "split": {"prepare"},
    "index": {"index"},
    "text": {"write"},
    "tasks": {"write"},
    "nano": {"train"},
    "pretrained": {"train"},
    "training": {"train"},
    "training.epochs": {"write", "train"},
    "training.validation_samples": {"write", "train"},
    "training.trackers": set(),
    "decoding": LM,
    "baselines.item_knn": {"recommend.item_knn", "recommend.aligned+prior"},
    "baselines.bias": {"recommend.bias", "recommend.aligned+prior"},
    "prior": {"recommend.aligned+prior"},
    "evaluation.resamples": {"evaluate"},
    "evaluation.shown_users": set(),
    "evaluation.held_out_templates": {"recommend.aligned"},
    "evaluation.search_error_users": {"recommend.aligned"},
}
"""Setting or section -> the stages that read it, the longest name that fits; the report reads all of them,
and a model of one's own that is handed the run all but the names, the models, the evaluation and who watches a training. A new
setting that does not fit its section is declared here."""
NOT_HANDED_OVER = ("name", "models", "evaluation", "training.trackers")


def settings(value: Any, name: str = "") -> Iterator[tuple[str, ...]]:
    """The path of every setting in an experiment, its sections and tasks taken apart."""
    fields = (
        value
        if isinstance(value, dict)
        else {field: getattr(value, field) for field in type(value).model_fields}
    )
    for field, inner in fields.items():
        if isinstance(inner, BaseModel) or field in ("tasks", "baselines"):
            yield from ((field, *path) for path in settings(inner))
        else:
            yield (field,)


BASE = Experiment(models=(*parts.MODELS, OWN, OWN_ON_TRAINING))
SETTINGS = list(settings(BASE))


OTHER: dict[str, Any] = {str(BASE.models): ("popularity",), "item_knn": "popularity", "bias": "global_mean"}
"""Values that another must stand for: names of models are looked up."""


def changed(value: Any, path: tuple[str, ...]) -> Any:
    """With another value at the path; validation is left out, since nothing is done with it."""
    if not path:
        return not value if isinstance(value, bool) else OTHER.get(str(value), "another")
    inner = value[path[0]] if isinstance(value, dict) else getattr(value, path[0])
    other = {path[0]: changed(inner, path[1:])}
    return {**value, **other} if isinstance(value, dict) else value.model_copy(update=other)


def declared(name: str) -> set[str]:
    fitting = [known for known in READ_BY if name == known or name.startswith(f"{known}.")]
    assert fitting, f"declare in READ_BY which stages read {name}, and see that it is in their inputs"
    own = set() if name.startswith(NOT_HANDED_OVER) else {f"recommend.{OWN_ON_TRAINING}"}
    return READ_BY[max(fitting, key=len)] | own | {"report"}


@pytest.fixture
def inputs_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The inputs of every stage of an experiment, as if those before had been done on what they always
    are."""
    known: dict[str, Any] = {}

    def do(self: RunFolder, stage: str, inputs: dict[str, Any], *_: Any, **__: Any) -> StageRecord:
        known[stage] = inputs
        return done(self, stage)

    def done(self: RunFolder, stage: str) -> StageRecord:
        return StageRecord(stage, {}, 0.0, None, {}, {}, "")

    monkeypatch.setattr(RunFolder, "do", do)
    monkeypatch.setattr(RunFolder, "needed", done)
    monkeypatch.setattr(stages, "source_hashes", lambda data: ["interactions", "items"])
    monkeypatch.setattr(stages, "read_templates", lambda task, path: f"the templates in {path}")

    def inputs(experiment: Experiment) -> dict[str, Any]:
        known.clear()
        folder = RunFolder(tmp_path)
        for stage in ("prepare", "index", "write", "train", "evaluate", "report"):
            getattr(stages, stage)(folder, experiment)
        stages.recommend(folder, BASE if experiment.models != BASE.models else experiment)
        return dict(known)

    return inputs


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: ".".join(path))
def test_a_setting_changes_the_inputs_of_the_stages_that_read_it_and_of_no_other(
    path: tuple[str, ...], inputs_of: Any
) -> None:
    before, after = inputs_of(BASE), inputs_of(changed(BASE, path))
    assert {stage for stage in before if before[stage] != after[stage]} == declared(".".join(path))


def test_what_is_declared_is_there() -> None:
    names = [".".join(path) for path in SETTINGS]
    assert [
        known for known in READ_BY if not any(name == known or name.startswith(f"{known}.") for name in names)
    ] == []


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_decoding_trains_anew_only_where_lists_choose_the_checkpoint(inputs_of: Any) -> None:
    by_lists = BASE.model_copy(
        update={"training": BASE.training.model_copy(update={"best_by": "ndcg@10", "validation_users": 9})}
    )
    before, after = (
        inputs_of(experiment)["train"] for experiment in (by_lists, changed(by_lists, ("decoding", "beams")))
    )
    assert before != after


def test_files_of_a_local_model_and_of_a_local_encoder_are_inputs(inputs_of: Any, tmp_path: Path) -> None:
    local = BASE.model_copy(
        update={
            "pretrained": BASE.pretrained.model_copy(update={"name": str(tmp_path / "lm")}),
            "index": BASE.index.model_copy(update={"encoder": str(tmp_path / "encoder")}),
        }
    )
    for folder in ("lm", "encoder"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("one")
    before = inputs_of(local)
    (tmp_path / "lm" / "config.json").write_text("two")
    after = inputs_of(local)
    assert [stage for stage in before if before[stage] != after[stage]] == ["train"]
    (tmp_path / "encoder" / "config.json").write_text("two")
    assert [stage for stage, inputs in inputs_of(local).items() if inputs != after[stage]] == ["index"]
