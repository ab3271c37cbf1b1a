"""Download models from the Hugging Face Hub and upload them. No code in their files can run."""

import re
from pathlib import Path
from textwrap import shorten

from trinas.errors import ModelError

MAX_DOWNLOAD_BYTES = 200_000_000
"""Larger files are refused before they are downloaded. Our networks have a few megabytes at most."""

MAX_ERROR_CHARACTERS = 300
"""Longer error messages are cut. For an unknown licence, for example, the Hub lists all licences that exist."""

_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form `user/name` or `user/name@revision`."""
    return _ID.fullmatch(name) is not None


def download_model(name: str, files: tuple[str, ...], *, anonymous: bool = False) -> Path:
    """Download a model's files into the Hub's cache and return their folder. Files in the cache also work offline.

    Args:
        name: `user/name`, or `user/name@revision` with a branch, tag or commit.
        files: names of the files to download, all of one commit.
        anonymous: do not use the login of this machine.
    Raises:
        ModelError: there is no such repository, revision or file, it needs a login, a file is too large, or the Hub
            cannot be reached and a file is not in the cache.
    """
    from huggingface_hub import errors, hf_hub_download

    found = _ID.fullmatch(name)
    assert found is not None
    repo, revision = found["repo"], found["revision"]
    path, token = Path(), False if anonymous else None
    try:
        for file in files:
            try:
                known = hf_hub_download(repo, file, revision=revision, token=token, dry_run=True)
                if known.file_size is not None and known.file_size > MAX_DOWNLOAD_BYTES:
                    size = f"{known.file_size / 1e6:,.0f} MB"
                    raise ModelError(f"{name}: {file} has {size}, which is no model of this program")
            except (errors.LocalEntryNotFoundError, errors.DryRunError):
                pass  # the Hub cannot be reached; the file may be in the cache
            path = Path(hf_hub_download(repo, file, revision=revision, token=token))
            revision = path.parent.name  # the commit of this file, so that the others have the same one
    except errors.GatedRepoError:
        raise ModelError(f"{name}: needs a login; ask for access on its page, then run `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{name}: no such folder, nor such a model on the Hub, unless it is private (`hf auth login`)"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{name}: the Hub has this model, but not this revision") from None
    except errors.LocalEntryNotFoundError:
        raise ModelError(
            f"{name}: no such folder; the Hub cannot be reached, and no such model was downloaded before"
        ) from None
    except errors.EntryNotFoundError:
        raise ModelError(f"{name}: is no model of this program, it has no {file}") from None
    except ModelError:
        raise
    except Exception as error:  # a full disk, a name that the Hub refuses, an error of the HTTP library
        raise ModelError(f"{name}: cannot be downloaded ({_shorten(error)})") from None
    return path.parent


def upload_files(folder: Path, repo: str, files: tuple[str, ...], token: str | None = None) -> str:
    """Upload files to a new repository, or as a new commit to an existing one.

    Args:
        folder: holds the files.
        repo: `user/name`.
        files: names of the files.
        token: must have the right to write. None: the token of `hf auth login`.
    Returns:
        The address of the repository's page.
    Raises:
        ModelError: the Hub refuses the files, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        page = api.create_repo(repo, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=list(files), commit_message="Model")
    except Exception as error:  # as above
        raise ModelError(f"{repo}: cannot be uploaded ({_shorten(error)})") from None
    return str(page)


def _shorten(error: Exception) -> str:
    """Return an error's message as one line of limited length."""
    return shorten(str(error), MAX_ERROR_CHARACTERS, placeholder=" …") or type(error).__name__
