"""Experiment: all stage settings in one frozen object. TOML in, TOML out; an unknown key names the nearest
known one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tomli_w
from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shelftalk import parts
from shelftalk.baselines.fusion import NAME as FUSION
from shelftalk.baselines.fusion import FusionSettings
from shelftalk.data.sources import DataSettings
from shelftalk.data.splitting import SplitSettings
from shelftalk.decoding.settings import DecodingSettings, PriorSettings
from shelftalk.errors import ChangedFile, MissingFile, SettingsError, UnknownPart, UnknownSetting, nearest
from shelftalk.evaluation.metrics import metric_names
from shelftalk.evaluation.multiple_testing import Correction
from shelftalk.indexing.item_index import IndexSettings
from shelftalk.models.settings import FAMILIES, FP16_ON_T5, NanoSettings, PretrainedSettings
from shelftalk.recipes import BEST, recipe_file, recipe_names
from shelftalk.recommender import ALIGNED, base_name, is_refit
from shelftalk.runtime.run_folder import RunFolder, beside, differing, read_signed, write_signed
from shelftalk.settings import Role, Settings
from shelftalk.tasks.item_text import TextSettings
from shelftalk.tasks.task import TaskSettings
from shelftalk.training.settings import BY_LOSS, TeacherSettings, TrainingSettings

SettingsT = TypeVar("SettingsT", bound=BaseModel)
EXPERIMENT_FILE = "the experiment file"
EXTENDS = "extends"
"""At the top of an experiment file: a recipe's name, or the path of another file, that it changes."""
WITHOUT_A_FILE: Mapping[str, Any] = {EXTENDS: BEST, "name": BEST}
"""The tables of a command, or a `shelftalk.run`, that is given no experiment."""
NAME = r"[\w.+-]*[\w+-][\w.+-]*"
"""What a run may be called: letters, digits and . + - _, but not dots alone, which lead to another folder."""
T5_NAME = re.compile(r"(?<![0-9a-z])(m|um|by|long|flan)?t5(?![0-9a-z])")
"""In a name on the hub, such as google/flan-t5-base."""
_ALL_STAGES = ("prepare", "index", "write", "train", "recommend", "evaluate")
_OF_THE_LANGUAGE_MODEL = Role(stages=(f"recommend.{ALIGNED}",))


def _scorers() -> list[str]:
    """The built-in models that score every item."""
    return [name for name, model in parts.MODELS.items() if model.scores_items]


class EvaluationSettings(Settings):
    """How models are compared."""

    role = Role(stages=("evaluate",))
    resamples: int = Field(2000, ge=100)
    """Bootstrap resamples of users for each 95 % interval."""
    correction: Correction = "holm"
    """How the p-values of paired differences are adjusted for their number, in one metric of a task: "holm"
    bounds the chance of any false claim, "benjamini_hochberg" the expected share of false ones."""
    shown_users: Annotated[int, Role(stages=())] = Field(20, ge=0)
    """Users shown in the report, drawn by seed."""
    held_out_templates: Annotated[bool, _OF_THE_LANGUAGE_MODEL] = True
    """Whether the language model also answers in templates that it was not trained on (validation part)."""
    search_error_users: Annotated[int, _OF_THE_LANGUAGE_MODEL] = Field(100, ge=0)
    """Users, drawn by seed, for whom beams are compared with
    the model's true top 10 (validation part); 0: none."""


class Experiment(Settings):
    """Everything that a run depends on."""

    name: Annotated[str, Role(stages=())] = Field("movielens-small", pattern=f"^{NAME}$")
    """Name of the run; its folder is runs/NAME."""
    seed: Annotated[int, Role(_ALL_STAGES)] = 0
    """The one seed from which everything random in the run is drawn."""
    models: Annotated[tuple[str, ...], Role(stages=("evaluate",))] = Field(parts.DEFAULT_MODELS, min_length=1)
    """What is evaluated: names of parts.MODELS or "package.module:function"; with "@refit" after it, a
    baseline that is chosen on validation and then fitted again on training and validation."""
    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    index: IndexSettings = IndexSettings()
    text: TextSettings = TextSettings()
    tasks: Annotated[dict[str, SerializeAsAny[TaskSettings]], Role(stages=("write",), tunable=True)] = Field(
        default_factory=dict, validate_default=True
    )
    """Settings by task, the built-in ones at least; a task of your own by "package.module:Class"."""
    nano: NanoSettings = NanoSettings()
    pretrained: PretrainedSettings = PretrainedSettings()
    teacher: TeacherSettings = TeacherSettings()
    training: TrainingSettings = TrainingSettings()
    decoding: DecodingSettings = DecodingSettings()
    baselines: Annotated[dict[str, SerializeAsAny[Settings]], Role(stages=("recommend",))] = Field(
        default_factory=dict, validate_default=True
    )
    """Settings by baseline, as [baselines.item_knn]; one of
    your own that declares settings by "package.module:NAME"."""
    prior: PriorSettings = PriorSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @field_validator("tasks", mode="before")
    @classmethod
    def _task_settings(cls, given: Mapping[str, Any], info: ValidationInfo) -> dict[str, TaskSettings]:
        """Each task's settings in the task's own type."""
        if not isinstance(given, Mapping):
            raise ValueError("must be a table with one table per task")
        settings, file = {}, (info.context or {}).get("file", EXPERIMENT_FILE)
        for name in dict.fromkeys([*parts.TASKS, *given]):
            value = given.get(name, {})
            kind = parts.load(parts.TASKS, name, "task").settings_type
            settings[name] = (
                value if isinstance(value, kind) else validated(kind, value, f"tasks.{name}", file)
            )
        return settings

    @field_validator("baselines", mode="before")
    @classmethod
    def _baseline_settings(cls, given: Mapping[str, Any], info: ValidationInfo) -> dict[str, Settings]:
        """Each baseline's settings in the class that its declaration names."""
        if not isinstance(given, Mapping):
            raise ValueError("must be a table with one table per baseline")
        own = {name: model.settings for name, model in parts.MODELS.items() if not model.section}
        known = [name for name, kind in own.items() if kind is not Settings]
        settings, file = {}, (info.context or {}).get("file", EXPERIMENT_FILE)
        for name in dict.fromkeys([*known, *given]):
            if name not in known and ":" not in name:
                raise UnknownPart(f'there are no settings of a baseline "{name}"; {nearest(name, known)}')
            kind, value = parts.declared(parts.MODELS, name, "model").settings, given.get(name, {})
            settings[name] = (
                value if isinstance(value, kind) else validated(kind, value, f"baselines.{name}", file)
            )
        return settings

    @field_validator("models", mode="after")
    @classmethod
    def _known_models(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            base = base_name(name)
            if base not in parts.MODELS and ":" not in base:
                raise UnknownPart(f'there is no model "{base}"; {nearest(base, parts.MODELS)}')
            if ":" not in base:
                cls.declared(name)
        return tuple(dict.fromkeys(names))

    @field_validator("training", mode="after")
    @classmethod
    def _known_judges(cls, training: TrainingSettings) -> TrainingSettings:
        for name in training.judged_by:
            if name not in parts.SERVED:
                raise UnknownPart(
                    f'training.judged_by names "{name}", which is no served task; '
                    f"{nearest(name, parts.SERVED)}"
                )
        known, best_by = (BY_LOSS, *metric_names("retrieval")), training.best_by
        if best_by not in known:
            raise UnknownPart(
                f'training.best_by names "{best_by}", which is no metric of retrieval; '
                f"{nearest(best_by, known)}"
            )
        return training

    @field_validator("teacher", mode="after")
    @classmethod
    def _known_teacher(cls, teacher: TeacherSettings) -> TeacherSettings:
        if teacher.model and teacher.model not in _scorers() and ":" not in teacher.model:
            raise UnknownPart(
                f'teacher.model names "{teacher.model}", which is no baseline that scores every item; '
                f"{nearest(teacher.model, _scorers())}"
            )
        return teacher

    @field_validator("baselines", mode="after")
    @classmethod
    def _known_members(cls, baselines: dict[str, Settings]) -> dict[str, Settings]:
        """What a fusion combines are other baselines that score items."""
        fusion = baselines[FUSION]
        assert isinstance(fusion, FusionSettings)
        known = [name for name in _scorers() if name != FUSION]
        for name in (*fusion.models, *fusion.settings):
            if name not in known and (":" not in name or name.startswith(parts.CORNAC)):
                raise UnknownPart(
                    f'baselines.fusion names "{name}", which is no baseline that scores every item; '
                    f"{nearest(name, known)}"
                )
        return baselines

    @field_validator("prior", mode="after")
    @classmethod
    def _known_priors(cls, prior: PriorSettings) -> PriorSettings:
        """Of the built-in models it is known here which score items and which rate; a model of the user's own
        is checked when it is built."""
        score = _scorers()
        rate = [name for name, model in parts.MODELS.items() if not model.section and "rating" in model.tasks]
        for setting, name, fit in (("model", prior.model, score), ("rating_model", prior.rating_model, rate)):
            # the scores of Cornac's models may be below 0
            scores = not (name.startswith(parts.CORNAC) and setting == "model")
            if is_refit(name) or (name not in fit and not (":" in name and scores)):
                raise UnknownPart(
                    f'prior.{setting} names "{name}", which is no model for that; {nearest(name, fit)}'
                )
        return prior

    @model_validator(mode="after")
    def _targets_of_an_encoder_decoder(self) -> Experiment:
        """Where the family is known before any model is opened;
        fresh_backbone.family asks a pretrained model's own config."""
        if not self.pretrained.name and (refusal := self.why_no_targets(self.nano.family)):
            raise ValueError(refusal)
        return self

    @model_validator(mode="after")
    def _tasks_of_the_last_epoch(self) -> Experiment:
        trained = [task for task in self.tasks.values() if task.weight > 0]
        if trained and all(task.first_epochs for task in trained):
            raise ValueError(
                "every task is trained in its first epochs alone (first_epochs), so the last ones would have "
                "no samples; set tasks.retrieval.first_epochs = 0"
            )
        return self

    @model_validator(mode="after")
    def _fp16_of_a_t5(self) -> Experiment:
        """What the name alone shows, before anything is fetched;
        a model's own config is read when it is opened."""
        name = self.pretrained.name
        if self.training.precision == "fp16" and T5_NAME.search(name.lower()) and not Path(name).exists():
            raise ValueError(FP16_ON_T5)
        return self

    def why_no_targets(self, family: str) -> str:
        """Why a backbone of the family could not learn from these samples; "" where it can. An encoder reads
        the history, so not every item of it can be a target."""
        for name in ("retrieval", "rating"):
            task = self.tasks[name]
            every = (
                getattr(task, "targets", 1) == 0 and getattr(task, "show_ratings", True) and task.weight > 0
            )
            if FAMILIES[family].encoder and every:
                return (
                    "an encoder-decoder reads the history before it answers; "
                    f"set tasks.{name}.targets = 1 or more"
                )
        return ""

    @property
    def needs_training(self) -> bool:
        """Whether a model is named that a language model has to be trained for."""
        return any(self.declared(name).stands_on == "train" for name in self.models)

    @staticmethod
    def declared(model: str) -> parts.Model:
        """The declaration of a model by its name; one that is fitted again is declared as the one that is
        chosen. Raises UnknownPart, also for a language model that is to be fitted again."""
        declaration = parts.declared(parts.MODELS, base_name(model), "model")
        if is_refit(model) and declaration.stands_on == "train":
            raise UnknownPart(
                f'"{model}" cannot be had: a language model keeps the checkpoint that validation chose, so '
                f'it is not trained on validation too; name "{base_name(model)}", or a baseline with @refit.'
            )
        return declaration

    def settings_of(self, model: str) -> Settings:
        """The settings of a model by its name; the defaults
        of one that has no section. Raises UnknownPart."""
        declaration = self.declared(model)
        if declaration.section:
            result: Settings = getattr(self, declaration.section)
            return result
        settings = self.baselines.get(base_name(model)) or declaration.settings()
        if isinstance(settings, FusionSettings):  # the models that it combines have sections of their own
            inner = {name: self.settings_of(name).model_dump(mode="json") for name in settings.models}
            settings = settings.model_copy(update={"settings": {**inner, **settings.settings}})
        return settings

    def combined_by(self, model: str) -> tuple[str, ...]:
        """The baselines that a fusion combines; none of any other model."""
        settings = self.baselines.get(base_name(model))
        return settings.models if isinstance(settings, FusionSettings) else ()

    def toml(self) -> str:
        """The whole experiment, every default resolved."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


TUNABLE = tuple(name for name in Experiment.model_fields if Experiment.role_of(name).tunable)
"""The sections that a tuner may change: what is trained and how it decodes, on one and the same data."""


def load_experiment(
    path: str | Path | None = None, overrides: Mapping[str, Any] | None = None, file: str = EXPERIMENT_FILE
) -> Experiment:
    """The experiment of a TOML file (every default, on the bundled MovieLens, without one), merged with the
    tables of `overrides`. Where either sets `extends`, it changes another file or a recipe of the package,
    and has a name of its own.

    `file` is what a message calls the file in which a fault is to be corrected. Raises MissingFile,
    UnknownSetting, UnknownPart or SettingsError, each naming the setting and the remedy.
    """
    given = dict(overrides or {})
    base = given.pop(EXTENDS, None)
    values = {} if base is None else _extended(base, Path(), file)
    if path is not None:
        values = laid_over(values, _values_of(Path(path), ()))
        if "name" not in {**values, **given}:
            values["name"] = name_of_file(path)
    return validated(Experiment, laid_over(values, given), "", file)


def _values_of(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The tables of a file over those of the file that it extends; `above` are the files that led to it."""
    values = read_toml(path, "experiment")
    base = values.pop(EXTENDS, None)
    if base is None:
        return values
    return laid_over(_extended(base, path.parent, f'"{path}"', (*above, path.resolve())), values)


def _extended(base: Any, folder: Path, file: str, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The tables of what is extended, a recipe's name or a path seen from `folder`, but not its name. Its own
    faults are told here, where they are to be corrected."""
    if not isinstance(base, str) or not base:
        raise SettingsError(
            f'the setting "{EXTENDS}" is not valid: it must be a recipe\'s name or the path of an experiment '
            f"file (given: {base!r}); correct it in {file}."
        )
    if base in recipe_names():
        path = recipe_file(base)
    elif base.endswith(".toml"):
        path = folder / base
    else:
        raise UnknownPart(f'{file} extends "{base}", which is no recipe; {nearest(base, recipe_names())}')
    if path.resolve() in above:
        raise SettingsError(f'"{path}" extends itself; remove {EXTENDS} = "{base}" from {file}.')
    values = _values_of(path, above)
    values.pop("name", None)
    validated(Experiment, values, "", f'"{path}"')
    return values


def name_of_file(path: str | Path, setting: str = "name") -> str:
    """The file's name, the default of `setting`. Raises SettingsError where it cannot name a folder."""
    stem = Path(path).stem
    if not re.fullmatch(NAME, stem):
        table, _, key = setting.rpartition(".")
        where = f"in the table [{table}]" if table else "at the top"
        plain = re.sub(r"[^\w.+-]+", "-", stem).strip("-")
        plain = plain if re.fullmatch(NAME, plain) else "run"
        raise SettingsError(
            f'no {setting} is set, and the name of the file, "{Path(path).name}", cannot be taken for it '
            f'(letters, digits and . + - _ alone); set {key} = "{plain}" {where} of that file, or rename it.'
        )
    return stem


def save_experiment(experiment: Experiment, folder: RunFolder) -> None:
    """Write experiment.toml for people, and then a copy that shows when it is damaged."""
    with beside(folder.experiment) as part:
        part.write_text(experiment.toml(), encoding="utf-8")
    write_signed(folder.signed_experiment, {"experiment": experiment.model_dump(mode="json")})


def saved_experiment(folder: RunFolder, given: Experiment | None = None) -> Experiment:
    """The experiment of a run folder, from whichever of its two files is whole.

    `given`: the experiment that is about to be saved there; experiment.toml may have been edited into it.
    Raises MissingFile where there is none, and ChangedFile where none can be read or experiment.toml was
    edited.
    """
    signed = _signed_experiment(folder)
    try:
        shown = load_experiment(folder.experiment)
    except (OSError, MissingFile, SettingsError) as error:
        if signed is not None:
            return signed
        if isinstance(error, MissingFile | NotADirectoryError):
            raise MissingFile(
                f'"{folder.path}" is no run folder, or its experiment.toml is gone; name another, or do the '
                "run again."
            ) from None
        raise ChangedFile(
            f'"{folder.experiment}" is damaged, or of an earlier version ({error}); copy the experiment file '
            "of the run there, or correct that setting in a copy and run it in another folder."
        ) from error
    if signed is not None and (edited := _edited(signed, shown, given)):
        raise ChangedFile(
            f'"{folder.experiment}" was edited after the run began (in {", ".join(edited[:3])}); undo that '
            "or remove it, and the run has its own settings again, or run the edited file with another --out."
        )
    return signed or shown


def _signed_experiment(folder: RunFolder) -> Experiment | None:
    """None where the signed copy is gone, damaged or of an earlier version."""
    try:
        return validated(Experiment, read_signed(folder.signed_experiment)["experiment"], "")
    except (OSError, ValueError, KeyError, TypeError, SettingsError):
        return None


def _edited(signed: Experiment, shown: Experiment, given: Experiment | None) -> list[str]:
    """The settings that experiment.toml shows otherwise than the run and, if any, the given experiment."""
    ran, file = (experiment.model_dump(mode="json") for experiment in (signed, shown))
    edited = differing(ran, file)
    kept = differing(file, given.model_dump(mode="json")) if given else edited
    return [name for name in edited if name in kept]


def read_toml(path: str | Path, kind: str) -> dict[str, Any]:
    """The tables of a TOML file; `kind` is what the messages call it. Raises MissingFile or SettingsError."""
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise MissingFile(f'there is no {kind} file "{path}"; correct the path.') from None
    except IsADirectoryError:
        own = RunFolder(Path(path)).experiment
        which = f', "{own}"' if kind == "experiment" and own.is_file() else ""
        raise MissingFile(f'"{path}" is a folder; name the {kind} file in it{which}.') from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f'"{path}" is not valid TOML: {error}; correct that line.') from None


def laid_over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The nested tables merged; where both set a value, that of `above` holds."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = laid_over(dict(merged[key]), value) if both else value
    return merged


def validated(kind: type[SettingsT], values: Any, where: str, file: str = EXPERIMENT_FILE) -> SettingsT:
    """Validate, and turn pydantic's error into one sentence
    about the first fault, to be corrected in `file`."""
    try:
        return kind.model_validate(values, context={"file": file})
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in ([where] if where else []) + list(fault["loc"]))
        if fault["type"] == "extra_forbidden":
            key, known = str(fault["loc"][-1]), _fields(kind, fault["loc"][:-1])
            # where version 0.1.0 had the settings of baselines
            if kind is Experiment and name in parts.MODELS:
                raise UnknownSetting(
                    f'there is no setting "{name}"; did you mean "baselines.{name}"?'
                ) from None
            raise UnknownSetting(f'there is no setting "{name}"; {nearest(key, known)}') from None
        given = "" if isinstance(fault.get("input"), (dict, list)) else f" (given: {fault.get('input')!r})"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
            message = f"it must be a table, written [{name}] with its settings below"
        raise SettingsError(
            f'the setting "{name or "data"}" is not valid: {message}{given}; correct it in {file}.'
        ) from None


def _fields(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The setting names at `path` inside `kind`."""
    for part in path:
        inner = kind.model_fields[str(part)].annotation if str(part) in kind.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)
