"""Every setting is in the inputs of the stages that depend on it by its declared role, and of no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from shelftalk import parts
from shelftalk.baselines.fusion import FusionSettings
from shelftalk.data.splitting import Split
from shelftalk.experiment import Experiment
from shelftalk.pipeline import stages
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR
from shelftalk.runtime.run_folder import RunFolder, StageRecord
from shelftalk.settings import Settings
from shelftalk.training.settings import TeacherSettings

OWN, OWN_ON_TRAINING = "test_stage_inputs:fit_own", "test_stage_inputs:ON_TRAINING"


def fit_own(split: Split, settings: Settings, seed: int) -> Any:
    """A baseline of one's own; no test calls it."""


ON_TRAINING = parts.Model(fit_own, stands_on="train")


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


TEACHER = TeacherSettings(model="item_knn")
BASE = Experiment(models=(*parts.MODELS, OWN, OWN_ON_TRAINING), teacher=TEACHER)
SETTINGS = list(settings(BASE))
FUSION = BASE.baselines["fusion"]
assert isinstance(FUSION, FusionSettings)
OTHER: dict[str, Any] = {
    str(BASE.models): ("popularity",),
    str(FUSION.models): ("item_knn", "popularity"),
    str(FUSION.settings): {"slist": {"l2": [7.0]}},
    "item_knn": "popularity",
    "bias": "global_mean",
}
"""Values that another must stand for: names of models are looked up."""


def changed(value: Any, path: tuple[str, ...]) -> Any:
    """With another value at the path; validation is left out, since nothing is done with it."""
    if not path:
        return not value if isinstance(value, bool) else OTHER.get(str(value), "another")
    inner = value[path[0]] if isinstance(value, dict) else getattr(value, path[0])
    other = {path[0]: changed(inner, path[1:])}
    return {**value, **other} if isinstance(value, dict) else value.model_copy(update=other)


def declared(path: tuple[str, ...]) -> set[str]:
    """The stages that depend on a setting, by its declared role. The report shows all settings, and what
    the certificate stands on are those that some stage depends on."""
    stages_of, name = BASE.role_at(path).stages, ".".join(path)
    assert stages_of is not None, (
        f"declare beside {name}, or for its section, the Role: which stages depend on it"
    )
    readers = {stage for stage in stages_of if stage != "recommend"}
    if "recommend" in stages_of:
        readers |= {f"recommend.{model}" for model in models_of(".".join(path[:-1]))}
    if path[:2] == ("baselines", TEACHER.model):
        readers.add("write")  # what the teacher expects is written with the samples
    if not any(set(BASE.role_at(path[:length]).stages or ()) <= {"evaluate"} for length in (1, len(path))):
        readers.add(
            f"recommend.{OWN_ON_TRAINING}"
        )  # it is handed all of the experiment on which answers depend
    return readers | ({"report", "certify"} if stages_of else {"report"})


def models_of(section: str) -> set[str]:
    """The models whose settings are in a section, and those
    that are combined of such; all for the experiment's own."""
    if not section:
        return set(BASE.models)
    home = {name: BASE.declared(name).section or f"baselines.{name}" for name in BASE.models}
    models = {name for name in BASE.models if home[name] == section}
    combined = {ALIGNED, BASE.prior.model, BASE.prior.rating_model}
    return (
        models
        | ({ALIGNED_WITH_PRIOR} if models & combined else set())
        | ({"fusion"} if models & set(FUSION.models) else set())
    )


@pytest.fixture
def inputs_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The inputs of every stage of an experiment, as if the
    stages before had been done on the same inputs."""
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
def test_a_setting_changes_the_inputs_of_the_stages_that_depend_on_it_and_of_no_other(
    path: tuple[str, ...], inputs_of: Any
) -> None:
    before, after = inputs_of(BASE), inputs_of(changed(BASE, path))
    assert {stage for stage in before if before[stage] != after[stage]} == declared(path)


def test_no_stage_but_the_report_depends_on_these_settings_and_on_all_others_one_does() -> None:
    unread = {".".join(path) for path in SETTINGS if not BASE.role_at(path).stages}
    assert unread == {"name", "evaluation.shown_users", "training.trackers"}


def test_a_new_setting_without_a_role_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(Experiment):
        extra: int = 0

    monkeypatch.setattr(sys.modules[__name__], "BASE", Wider())
    with pytest.raises(AssertionError, match="declare beside extra"):
        declared(("extra",))


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
