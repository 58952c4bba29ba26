"""Pushing to a hub, with a stub in its place: private by default, every failure one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

from shelftalk.errors import AnotherExperiment, HubError
from shelftalk.publishing import open_recommender
from shelftalk.publishing.hub import push
from shelftalk.runtime.run_folder import RunFolder
from tests.end_to_end.tiny import call


class Hub:
    """Keeps what is uploaded in a folder; `public`: the repository is there and open to all; `fails`:
    what it raises."""

    def __init__(self, position: Path, public: bool = False, fails: Exception | None = None) -> None:
        self.position, self.private, self.fails = position, not public, fails
        self.made: list[tuple[str, bool]] = []

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        if self.fails:
            raise self.fails
        self.made.append((name, private))
        return f"https://hub.example/{name}"

    def repo_info(self, name: str) -> Any:
        return SimpleNamespace(private=self.private)

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str
    ) -> None:
        for name in allow_patterns:
            (self.position / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder_path / name, self.position / name)


def refusal(status: int) -> HfHubHTTPError:
    request = SimpleNamespace(url="https://hub.example", method="POST")
    return HfHubHTTPError(
        f"{status} Client Error.\n\nForbidden.", response=SimpleNamespace(headers={}, request=request)
    )  # type: ignore[arg-type]


def test_what_is_pushed_is_private_whole_and_opens(published: Path, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    assert push(published, "owner/model", api=hub) == "https://hub.example/owner/model"
    assert hub.made == [("owner/model", True)]
    assert open_recommender(hub.position).index.item_ids == open_recommender(published).index.item_ids
    assert (hub.position / "README.md").exists()


def test_a_file_that_was_put_beside_is_not_uploaded_and_a_changed_one_stops_it(
    copied: Callable[[], Path], tmp_path: Path
) -> None:
    folder, hub = copied(), Hub(tmp_path / "hub")
    (folder / "orders.csv").write_text("who, what")
    push(folder, "owner/model", api=hub)
    assert not (hub.position / "orders.csv").exists()
    (folder / "catalogue.parquet").write_bytes(b"")
    with pytest.raises(AnotherExperiment):
        push(folder, "owner/other", api=hub)
    assert hub.made == [("owner/model", True)]


def test_a_public_repository_is_met_only_by_those_who_say_public(published: Path, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub", public=True)
    with pytest.raises(HubError, match="is public; add --public"):
        push(published, "owner/model", api=hub)
    assert not hub.position.exists()
    push(published, "owner/model", public=True, api=hub)
    assert hub.made[-1] == ("owner/model", False) and hub.position.exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(403), "the hub refused .* your token may write there"),
        (OfflineModeIsEnabled("offline mode"), "cannot be reached .*push it again where there is a network"),
        (HTTPError("no route\nto host"), r"cannot be reached \(no route\)"),
        (
            HFValidationError("a/b/c is wrong."),
            r'cannot be the name of a repository \(a/b/c is wrong\); give one such as "owner/model"',
        ),
    ],
)
def test_each_failure_is_one_sentence(
    error: Exception, message: str, published: Path, tmp_path: Path
) -> None:
    with pytest.raises(HubError, match=message) as caught:
        push(published, "owner/model", api=Hub(tmp_path, fails=error))
    assert "\n" not in str(caught.value)
    # the name that it gives, a token that may write, a network: the same folder goes up
    assert push(published, "owner/model", api=Hub(tmp_path / "hub")) == "https://hub.example/owner/model"


def test_the_command_pushes_and_requires_a_token(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: hub)
    refused = call("publish", run.path, "--to", tmp_path / "model", "--push", "owner/model")
    assert refused.exit_code == 2 and "HubError: there is no token" in refused.stderr and not hub.made
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a stub's")
    done = call("publish", run.path, "--to", tmp_path / "model", "--push", "owner/model")
    assert done.exit_code == 0 and "Pushed to: https://hub.example/owner/model" in done.stdout, done.output
    assert "shelftalk.load('owner/model')" in (hub.position / "README.md").read_text("utf-8")
