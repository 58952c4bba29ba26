"""Push a published folder to a hub, private unless `public`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shelftalk.errors import HubError
from shelftalk.publishing.contents import CARD, FACTS, read_facts


def push(folder: Path, name: str, public: bool = False, api: Any = None) -> str:
    """Upload a published folder as the model repository `name` ("owner/model"); returns its address.

    `api`: a huggingface_hub.HfApi, by default one with the token of `hf auth login` or HF_TOKEN. A
    repository that is new is private unless `public`; one that is public already is refused unless `public`,
    since everyone could read what the folder holds of a shop. Raises HubError without a token or network,
    for an invalid name, and where the hub refuses; and as `read_facts` does.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
    )

    uploaded = [*read_facts(folder).files, FACTS, CARD]  # and no other file of the folder
    api = api or HfApi(token=_token())
    try:
        address = str(api.create_repo(name, private=not public, exist_ok=True))
        if not public and not api.repo_info(name).private:
            raise HubError(
                f'the repository "{name}" is public; add --public if everyone may read this model, or choose '
                "another name."
            )
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=uploaded, commit_message="shelftalk publish"
        )
    except HFValidationError as error:
        raise HubError(
            f'"{name}" cannot be the name of a repository ({_line(error)}); give one such as "owner/model".'
        ) from None
    except HfHubHTTPError as error:
        raise HubError(
            f'the hub refused "{name}" ({_line(error)}); check the name, and that your token may write there.'
        ) from None
    except (HTTPError, OSError) as error:
        raise HubError(
            f'the hub cannot be reached ({_line(error)}); the folder "{folder}" is whole: push it again where'
            " there is a network."
        ) from None
    return address


def _token() -> str:
    """The user's own token. Raises HubError where there is none."""
    from huggingface_hub import get_token

    if not (token := get_token()):
        raise HubError("there is no token for the hub; run `hf auth login` or set HF_TOKEN, then push again.")
    return token


def _line(error: Exception) -> str:
    return next(
        (line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__
    )
