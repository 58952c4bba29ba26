"""What `show` and `doctor` look at."""

from __future__ import annotations

import subprocess
import sys

from shelftalk.runtime import machine


def test_the_machine_is_described_without_loading_torch() -> None:
    program = (
        "import sys; from shelftalk.runtime import machine\n"
        "machine.hardware_facts(); machine.versions(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_the_facts_are_plain_and_known() -> None:
    facts = {**machine.hardware_facts(), **machine.versions()}
    assert all(isinstance(value, (str, int)) and value != "" for value in facts.values())
    assert int(facts["cores"]) >= 1 and facts["memory"].endswith("available")  # type: ignore[union-attr]


def test_the_doctor_adds_what_only_torch_can_tell() -> None:
    from shelftalk.app.inspecting import machine_facts

    facts = machine_facts()
    assert {"bf16 in hardware", "GPU"} <= set(facts) and set(machine.versions()) <= set(facts)
