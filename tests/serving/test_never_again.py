"""Hidden, expired and removed items never come back in an answer to a question asked afterwards, while many
write and ask at once."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.serving.running import Client, serving


def test_what_left_never_comes_back_under_concurrent_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(str(tmp_path / "store.sqlite"), monkeypatch, scheme="titles") as client:
        trained = client.recommended()[:8]
        wrong: list[str] = []
        answered = [0]
        threads = [
            threading.Thread(target=_write_and_ask, args=(client, trained[n::4], n, wrong, answered))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == [] and answered[0] > 50


def _write_and_ask(
    client: Client, own: list[str], number: int, wrong: list[str], answered: list[int]
) -> None:
    """One writer, who alone changes its items, so that it knows what may come back."""
    rng = random.Random(number)
    titles = {item: client.call("GET", f"/v1/items/{item}")[1]["title"] for item in own}
    own = [*own, f"new-{number}-0", f"new-{number}-1"]
    until: dict[str, float] = dict.fromkeys(own, float("inf"))
    for item in own[-2:]:
        until[item] = 0.0  # not there yet
    for _ in range(10):
        item = rng.choice(own)
        path, text = f"/v1/items/{item}", {"title": titles.get(item, f"Amber lamps {item}")}
        action = rng.choice(["hide", "remove", "expire", "put", "put"])
        if action == "remove":
            status = client.call("DELETE", path)[0]
            until[item] = 0.0
        elif action == "hide":
            status = client.call("PUT", path, {**text, "hidden": True})[0]
            until[item] = 0.0
        elif action == "expire":
            status = client.call("PUT", path, {**text, "expires_in": 0.15})[0]
            until[item] = time.time() + 0.15
            time.sleep(rng.random() * 0.3)
        else:
            status = client.call("PUT", path, text)[0]
            until[item] = float("inf")
        assert status in (200, 204)
        asked = time.time()
        visible = [one for one in own if until[one] == float("inf")]
        listed = set(client.recommended([], filter={"only": [one for one in own if until[one] > 0]}))
        back = listed | set(client.recommended())
        wrong.extend(f"{one} after {action}" for one in own if until[one] <= asked and one in back)
        wrong.extend(f"{one} is missing after {action}" for one in visible if one not in listed)
        answered[0] += 2
