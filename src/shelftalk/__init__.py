"""shelftalk aligns language models with recommendation knowledge and makes recommenders of them.

    import shelftalk

    run = shelftalk.run("my-shop.toml")                      # or open_run("runs/my-shop") of a finished one
    model = run.model("aligned+prior")
    model.recommend([shelftalk.Request("anyone", history=("B01", "B07"))], k=10)

    model = shelftalk.load("runs/my-shop/published")         # or "owner/model" of a hub
    model.recommend(["B01", shelftalk.Text("a tea like Assam")], k=10)

What a user may rely on is exactly `__all__`. Each name is imported when it is first used, so that
`import shelftalk` loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shelftalk.data.sources.frames import write_data as write_data
    from shelftalk.errors import ShelftalkError as ShelftalkError
    from shelftalk.experiment import Experiment as Experiment
    from shelftalk.experiment import load_experiment as load_experiment
    from shelftalk.pipeline.run import Run as Run
    from shelftalk.pipeline.run import open_run as open_run
    from shelftalk.pipeline.stages import run_experiment as run  # noqa: F401
    from shelftalk.publishing.display import RankedItems as RankedItems
    from shelftalk.publishing.display import Reasons as Reasons
    from shelftalk.publishing.loading import load as load
    from shelftalk.publishing.served_model import ServedModel as ServedModel
    from shelftalk.recommender import Ranker as Ranker
    from shelftalk.recommender import Rater as Rater
    from shelftalk.recommender import Recommender as Recommender
    from shelftalk.records import Filter as Filter
    from shelftalk.records import Ranking as Ranking
    from shelftalk.records import Request as Request
    from shelftalk.records import Text as Text

__version__ = "0.2.0"

_HOMES = {
    "run": "shelftalk.pipeline.stages:run_experiment",
    "open_run": "shelftalk.pipeline.run:open_run",
    "Run": "shelftalk.pipeline.run:Run",
    "load": "shelftalk.publishing.loading:load",
    "ServedModel": "shelftalk.publishing.served_model:ServedModel",
    "RankedItems": "shelftalk.publishing.display:RankedItems",
    "Reasons": "shelftalk.publishing.display:Reasons",
    "Request": "shelftalk.records:Request",
    "Text": "shelftalk.records:Text",
    "Filter": "shelftalk.records:Filter",
    "Ranking": "shelftalk.records:Ranking",
    "Recommender": "shelftalk.recommender:Recommender",
    "Ranker": "shelftalk.recommender:Ranker",
    "Rater": "shelftalk.recommender:Rater",
    "Experiment": "shelftalk.experiment:Experiment",
    "load_experiment": "shelftalk.experiment:load_experiment",
    "ShelftalkError": "shelftalk.errors:ShelftalkError",
    "write_data": "shelftalk.data.sources.frames:write_data",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
