"""Download models from the Hugging Face Hub and upload them. No code in their files can run."""

import re
from pathlib import Path

from trinas.errors import ModelError
from trinas.text import shorten_text

MAX_DOWNLOAD_BYTES = 200_000_000
"""Larger files are refused before they are downloaded. Our networks have a few megabytes at most."""

_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form `user/name` or `user/name@revision`."""
    return _ID.fullmatch(name) is not None


def download_model(name: str, files: tuple[str, ...], *, anonymous: bool = False) -> Path:
    """Download a model's files into the Hub's cache and return their folder. Files in the cache also work offline.

    A Hub that cannot be reached gets one attempt of at most 10 s (HF_HUB_ETAG_TIMEOUT).

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
    path, token, is_online = Path(), False if anonymous else None, True
    try:
        for file in files:
            size, is_online = _look_up(repo, file, revision, token) if is_online else (None, False)
            if size is not None and size > MAX_DOWNLOAD_BYTES:
                raise ModelError(f"{name}: {file} has {size / 1e6:,.0f} MB, which is no model of this program")
            path = Path(hf_hub_download(repo, file, revision=revision, token=token, local_files_only=not is_online))
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


def _look_up(repo: str, file: str, revision: str | None, token: bool | None) -> tuple[int | None, bool]:
    """Return a file's size in bytes if the Hub tells it, and whether the Hub answers.

    `hf_hub_download` alone would repeat its attempts for 23 s where there is no network and nothing in the cache.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        return get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), token=token).size, True
    except errors.HfHubHTTPError:  # the download says what is wrong, and repeats what may help
        return None, True
    except Exception:  # errors of the HTTP library; offline mode
        return None, False


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
    """Return an error's message as one short line. For an unknown licence, the Hub lists all licences that exist."""
    return shorten_text(" ".join(str(error).split())) or type(error).__name__
