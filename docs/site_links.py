"""Hook of mkdocs: a link that leaves docs/ becomes the path it names, since the site holds docs/ alone."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page's text as the site shows it: `[text](../a/b)` -> text (`a/b`)."""
    return OUTSIDE.sub(
        lambda link: link[1] if link[1].strip("`") == link[2] else f"{link[1]} (`{link[2]}`)", markdown
    )
