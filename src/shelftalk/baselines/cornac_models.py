"""The models of Cornac by name, "cornac:GRU4Rec": what is known of one before it is fitted.

Cornac (Salah, Truong, Lauw, "Cornac: a comparative framework for multimodal recommender systems", JMLR 21,
2020) is an extra, `pip install shelftalk[cornac]`. A model's settings are the parameters of its constructor,
read from its signature; what cornac_adapter.py gives is none of them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from pydantic import create_model, model_validator

from shelftalk.errors import UnknownPart, nearest
from shelftalk.recommender import TaskName
from shelftalk.settings import Settings

PREFIX = "cornac:"
GIVEN = frozenset({"name", "trainable", "verbose", "seed", "init_params"})
"""Parameters of constructors that the adapter gives or leaves alone."""
RATING_MODELS = frozenset(
    {"BaselineOnly", "GCMC", "GlobalAvg", "ItemKNN", "MF", "NMF", "PMF", "SVD", "UserKNN"}
)
"""Models that learn rating values unless `feedback` says otherwise."""
ITEM_FEATURE_MODELS = frozenset({"DiffGRM", "LETTER", "RPG", "TIGER"})
"""Models that read a vector of text per item."""
PARALLEL_SESSIONS = frozenset({"GRU4Rec"})
"""Models that train `batch_size` users side by side, and fail inside of torch where there are fewer."""
REFUSED = {"FM": "takes all memory that there is (Cornac 3.0.1, 18 GB for 60 users)"}
"""Models that no setting makes work, and what they do."""
PACKAGES = {
    "dgl": frozenset({"DNNTSP", "GCMC", "HypAR", "LightGCN", "NGCF"}),
    "faiss": frozenset({"DiffGRM", "FaissANN", "RPG"}),
    "tensorflow": frozenset({"CDL", "CDR", "CVAE", "ConvMF", "HRDR", "NARRE", "PCRL", "WMF"}),
}
"""Package that Cornac does not install -> the models that cannot be fitted without it."""
TO_INSTALL = {"dgl": '"dgl<2"', "faiss": "faiss-cpu"}
"""What pip calls such a package, and which version goes with Cornac, where it is not the package's name."""
Feedback = Literal["events", "ratings"]


class CornacSettings(Settings):
    """The settings of a model of Cornac: `feedback`, and the parameters of its constructor."""

    feedback: Feedback = "events"
    """What the model learns: that a user took an item ("events"), or the visible ratings ("ratings"), which
    it then also predicts."""
    kind: ClassVar[type]
    """The class of Cornac."""

    @model_validator(mode="after")
    def _accepted_by_the_constructor(self) -> CornacSettings:
        """Cornac's own checks of the values, before anything is fitted."""
        try:
            self.kind(**self.parameters())
        except (TypeError, ValueError) as error:
            raise ValueError(str(error)) from error
        return self

    def parameters(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {name: value for name, value in self if name != "feedback"}

    @property
    def validates(self) -> bool:
        """Whether the model chooses its last epoch on the validation part."""
        given = self.parameters()
        return given.get("model_selection") == "best" or bool(given.get("early_stopping"))


@dataclass(frozen=True)
class CornacModel:
    """`kind`: the class of Cornac. `sequential`: it answers from a history, whoever has it; any other knows
    the users of its training data alone."""

    kind: type
    settings: type[CornacSettings]
    sequential: bool
    seeded: bool
    """Its constructor takes a seed."""
    quiet: Mapping[str, bool]
    """The argument that keeps it from printing, where there is one."""
    needs: tuple[str, ...]
    """Python packages that Cornac does not install and that it cannot be fitted without."""

    @property
    def tasks(self) -> tuple[TaskName, ...]:
        """The tasks that it answers by default."""
        learns = self.settings.model_fields["feedback"].default
        return ("retrieval", "ranking", "rating") if learns == "ratings" else ("retrieval", "ranking")


@cache
def cornac_model(name: str) -> CornacModel:
    """The model "cornac:CLASS". Raises UnknownPart where Cornac is not installed, for a class that it has
    not, and for one that cannot be fitted to a shop's data alone."""
    models, known = _models()
    kind = known.get(name.removeprefix(PREFIX))
    if kind is None:
        raise UnknownPart(f'there is no model "{name}"; {nearest(name, [PREFIX + one for one in known])}')
    short = name.removeprefix(PREFIX)
    if short in REFUSED:
        raise UnknownPart(f'"{name}" {REFUSED[short]}; choose another, such as "{PREFIX}MF".')
    if issubclass(kind, models.NextBasketRecommender):
        raise UnknownPart(
            f'"{name}" predicts whole baskets, which there are none of here; '
            f'choose a model of next items, such as "{PREFIX}GRU4Rec".'
        )
    parameters = dict(_parameters(kind))
    if missing := [one for one, default in parameters.items() if default is inspect.Parameter.empty]:
        raise UnknownPart(
            f'"{name}" is made of another model ({", ".join(missing)}), which settings cannot give; '
            f'choose a model by itself, such as "{PREFIX}BPR".'
        )
    feedback: Feedback = "ratings" if short in RATING_MODELS else "events"
    fields: dict[str, Any] = {one: (Any, default) for one, default in parameters.items() if one not in GIVEN}
    doc = f"Settings of {name}: `feedback`, and the parameters of Cornac's class."
    settings = create_model(
        f"Cornac{short}Settings",
        __base__=CornacSettings,
        __doc__=doc,
        feedback=(Feedback, feedback),
        **fields,
    )
    settings.kind = kind
    return CornacModel(
        kind,
        settings,
        sequential=issubclass(kind, models.NextItemRecommender),
        seeded="seed" in parameters,
        quiet={"verbose": False} if "verbose" in parameters else {},
        needs=tuple(package for package, users in PACKAGES.items() if short in users),
    )


def check_installed(name: str) -> None:
    """Raises UnknownPart where the model needs a package that is not installed, whatever its settings."""
    for package in cornac_model(name).needs:
        if find_spec(package) is None:
            wanted = TO_INSTALL.get(package, package)
            raise UnknownPart(
                f'"{name}" needs the Python package "{package}", which Cornac does not install; '
                f"install it with `pip install {wanted}`, or leave the model out."
            )


def _models() -> tuple[Any, Mapping[str, type]]:
    """The module cornac.models, and its recommenders by name."""
    try:
        models = importlib.import_module("cornac.models")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cornac":
            raise UnknownPart(
                f'Cornac cannot be loaded without the Python package "{error.name}"; '
                "install what it needs with `pip install shelftalk[cornac]`."
            ) from error
        raise UnknownPart(
            'models named "cornac:..." are those of Cornac, which is not installed; '
            "install it with `pip install shelftalk[cornac]`."
        ) from error
    bases = (models.Recommender, models.NextItemRecommender, models.NextBasketRecommender)
    recommenders = {
        name: value
        for name, value in sorted(vars(models).items())
        if isinstance(value, type) and issubclass(value, models.Recommender) and value not in bases
    }
    return models, recommenders


def _parameters(kind: type) -> Iterator[tuple[str, Any]]:
    """Parameter of the constructor -> its default; where it passes others on, those of its parent too."""
    for one in kind.__mro__:
        constructor = one.__dict__.get("__init__")
        if constructor is None:
            continue
        parameters = list(inspect.signature(constructor).parameters.values())[1:]  # without self
        yield from ((p.name, p.default) for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD)
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
            return
