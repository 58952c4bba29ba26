"""Every honest run passes `shelftalk verify`: fixtures that make one end with this."""

from __future__ import annotations

from shelftalk.certificate.verify import verify
from shelftalk.runtime.run_folder import RunFolder


def verified(run: RunFolder) -> RunFolder:
    """The run, if nothing in it is found that does not hold."""
    result = verify(run)
    assert result.holds, result.problems
    assert result.fingerprint and all(fact.holds is not False for fact in result.facts)
    return run
