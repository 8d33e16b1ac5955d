"""Find the folder of a model by its name: a local path, the shipped model, or a Hugging Face hub id."""

from __future__ import annotations

import difflib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from openxclip.common.files import cannot_read, reason_of, user_path
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11


class HubOptions(TypedDict, total=False):
    """Keyword arguments of functions that read from the hub, with huggingface_hub's names.

    Attributes:
        revision: branch, tag or commit of a hub repository.
        cache_dir: folder for downloads; default is huggingface_hub's own cache.
        local_files_only: use only files that are in the cache already.
        token: access token for private repositories; True uses the one that was saved at login.
        force_download: download files even if they are in the cache.
        subfolder: folder of the model inside the named folder or repository.
    """

    revision: str | None
    cache_dir: str | Path | None
    local_files_only: bool
    token: str | bool | None
    force_download: bool
    subfolder: str


# Arguments of transformers that need nothing here: no code of a repository is ever run, and downloads always resume.
_IGNORED = frozenset(
    {"_commit_hash", "_from_auto", "_from_pipeline", "code_revision", "proxies", "resume_download", "trust_remote_code"}
)
SHIPPED_MODELS = ("mini",)
DEFAULT_MODEL = "microsoft/xclip-base-patch32"
#: Suffixes of weight files. They only help to interpret a name: a file's format is recognised by its content.
WEIGHTS_SUFFIXES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".safetensors"})
_SIMILARITY = 0.75  # difflib's ratio for names with at most one wrong letter in four, or two swapped
#: Hub ids of the models that the paper's authors trained; `openxclip.checkpoints.RELEASED` describes them.
RELEASED_MODELS = tuple(
    f"microsoft/xclip-{name}"
    for name in (
        "base-patch32", "base-patch32-16-frames", "base-patch16", "base-patch16-16-frames",
        "base-patch16-kinetics-600", "base-patch16-kinetics-600-16-frames",
        *(f"base-patch16-{data}-{shots}-shot" for data in ("hmdb", "ucf") for shots in (2, 4, 8, 16)),
        "base-patch16-zero-shot", "large-patch14", "large-patch14-16-frames", "large-patch14-kinetics-600",
    )
)  # fmt: skip


def resolve_folder(
    name_or_path: str | Path, *, allow_patterns: Sequence[str] | None = None, **hub_options: Unpack[HubOptions]
) -> Path:
    """Return the local folder of a model. A hub repository is downloaded into the cache first.

    Args:
        name_or_path: a folder; a name in `SHIPPED_MODELS` (write `./mini` for a folder of that name); or a hub id.
        allow_patterns: glob patterns of the files to download from a hub repository; None downloads all.
        **hub_options: see `HubOptions`.

    Raises:
        CheckpointError: there is no such folder or repository, or the hub can't be reached.
    """
    if unknown := hub_options.keys() - HubOptions.__annotations__.keys():
        raise TypeError(f"resolve_folder got an unexpected keyword argument {', '.join(map(repr, unknown))}")
    subfolder = hub_options.pop("subfolder", None) or ""
    name = str(name_or_path)
    if not name:
        raise CheckpointError("the model's name is empty.")
    if name in SHIPPED_MODELS:
        return Path(__file__).parent / "models" / name / subfolder
    path = user_path(name_or_path)
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises an error if the name is too long)
        folder = path / subfolder
        try:
            os.stat(os.path.join(folder, "."))  # noqa: PTH116, PTH118 (Path drops the dot, which tests the permission to enter)
        except PermissionError as error:
            raise CheckpointError(cannot_read(folder, error)) from error
        except (OSError, ValueError):
            raise CheckpointError(f"{path}: has no folder {subfolder!r}.") from None
        return folder
    if os.path.exists(path):  # noqa: PTH110
        raise CheckpointError(f"{path}: is a file; a model is a folder with config.json and weights in it.")
    if path.suffix.lower() in WEIGHTS_SUFFIXES:
        raise CheckpointError(f"{name}: there is no such file: {suggest_model(name) or 'check the path.'}")
    if isinstance(name_or_path, Path) or not _looks_like_hub_id(name):
        raise CheckpointError(
            f"{name}: there is no such folder, and it is neither a shipped model ({', '.join(SHIPPED_MODELS)}) "
            f"nor a hub id such as {DEFAULT_MODEL}{_hint(name)}"
        )
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    patterns = None if allow_patterns is None else [prefix + pattern for pattern in allow_patterns]
    return _download(name, patterns, **hub_options) / subfolder


def split_options(options: Mapping[str, Any]) -> tuple[HubOptions, dict[str, Any]]:
    """Split the keyword arguments of a `from_pretrained` into `HubOptions` and the others.

    `use_auth_token` is an older name of `token`. Arguments of transformers that need nothing here are dropped.

    Raises:
        ValueError: `proxies` is given, or both `token` and `use_auth_token` are.
    """
    if options.get("proxies"):
        raise ValueError("proxies= is not supported: set HTTPS_PROXY in the environment to the proxy's address.")
    others = {name: value for name, value in options.items() if name not in _IGNORED}
    if (older_token := others.pop("use_auth_token", None)) is not None:
        if others.get("token") is not None:
            raise ValueError("token and use_auth_token are one argument by two names: pass token alone.")
        others["token"] = older_token
    hub_options = {name: others.pop(name) for name in HubOptions.__annotations__ if name in others}
    return cast(HubOptions, hub_options), others


def existing_file(name_or_path: str | Path) -> Path | None:
    """Return the file of that name, or None if it is a folder, a shipped model or a hub id."""
    if not str(name_or_path) or str(name_or_path) in SHIPPED_MODELS:
        return None
    path = user_path(name_or_path)
    return path if os.path.isfile(path) else None  # noqa: PTH113 (Path.is_file raises an error if the name is too long)


def suggest_model(name: str, cache_dir: str | Path | None = None) -> str:
    """Return the question "did you mean …?" if an existing model has a similar name; otherwise ""."""
    cached: list[str] = []
    with suppress(CheckpointError, OSError):
        cached = cached_models(cache_dir)
    ids = (*cached, *RELEASED_MODELS)
    neighbours: list[str] = []
    with suppress(OSError, ValueError):
        path = user_path(name)
        similar = difflib.get_close_matches(path.name, os.listdir(path.parent), cutoff=_SIMILARITY)  # noqa: PTH208
        neighbours = [name.removesuffix(path.name) + other for other in similar if _is_model(path.with_name(other))]
    known = [*neighbours, *SHIPPED_MODELS, *ids]
    if name in known:  # the name is right, and something else is wrong
        return ""
    by_text = {model_id.split("/")[-1]: model_id for model_id in ids if "/" not in name}  # the owner was left out
    by_text |= {other.casefold(): other for other in known}
    best = difflib.get_close_matches(name.casefold(), by_text, n=1, cutoff=_SIMILARITY)
    return f"did you mean {by_text[best[0]]}?" if best else ""


def _hint(name: str, cache_dir: str | Path | None = None) -> str:
    """Return the end of a sentence about an unknown model: a suggestion if there is one, else a full stop."""
    suggestion = suggest_model(name, cache_dir)
    return f": {suggestion}" if suggestion else "."


def _is_model(path: Path) -> bool:
    return path.suffix.lower() in WEIGHTS_SUFFIXES or any(
        (path / config).is_file() for config in ("config.json", "open_clip_config.json")
    )


def content_of(folder: Path) -> str:
    """Return the first few names in a folder, for messages about missing files."""
    try:
        return ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"  # noqa: PTH208
    except OSError as error:
        return f"files that can't be listed: {reason_of(error)}"


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file, or raise CheckpointError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: should hold a JSON object, not a {type(content).__name__}.")
    return content


def _looks_like_hub_id(name: str) -> bool:
    """Return whether the name is OWNER/NAME. The hub's few ids without an owner are neither X-CLIPs nor CLIPs."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in __all__

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _download(repo_id: str, allow_patterns: list[str] | None, **hub_options: Unpack[HubOptions]) -> Path:
    """Download a repository into the cache, or find it there; see `resolve_folder`."""
    import huggingface_hub
    from huggingface_hub import errors

    revision, cache_dir = hub_options.get("revision"), hub_options.get("cache_dir")
    local_files_only = hub_options.get("local_files_only", False)
    options: dict[str, Any] = {**hub_options, "allow_patterns": allow_patterns}
    if local_files_only:
        options.pop("force_download", None)
    _check_home(repo_id, cache_dir, downloads=not local_files_only)
    try:
        return Path(huggingface_hub.snapshot_download(repo_id, **options))
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{repo_id}: access is restricted: request it on the model's hub page, then log in with `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repo_id}: no such repository on the hub (or a private one: log in with `hf auth login`), "
            f"and no such folder here{_hint(repo_id, cache_dir)}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{repo_id}: has no revision {revision!r} on the hub.") from error
    except errors.LocalEntryNotFoundError as error:
        at_revision = "" if revision is None else f", revision {revision!r},"
        problem = f"{repo_id}{at_revision} is not in the local cache"
        if local_files_only:
            raise CheckpointError(problem + _hint(repo_id, cache_dir)) from error
        reason = "HF_HUB_OFFLINE is set" if huggingface_hub.constants.HF_HUB_OFFLINE else "the hub can't be reached"
        raise CheckpointError(f"{problem}, and {reason}. {_advice(repo_id, cache_dir)}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        if getattr(error, "filename", None) is not None:  # a file in the cache, not the network
            raise CheckpointError(
                f"{repo_id}: can't be stored in the hub's cache: {error.filename}: {reason_of(error)}. "
                "Set HF_HOME to a writable folder on a disk with free space."
            ) from error
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise CheckpointError(
                f"{repo_id}: can't be downloaded: the disk is full. Free some space, or set HF_HOME to another disk."
            ) from error
        raise CheckpointError(
            f"{repo_id}: the hub can't be reached ({type(error).__name__}). {_advice(repo_id, cache_dir)}"
        ) from error


def _advice(name: str, cache_dir: str | Path | None) -> str:
    """Return a sentence on what to do if a model can't be downloaded."""
    from huggingface_hub import constants

    if suggestion := suggest_model(name, cache_dir):
        return suggestion[0].upper() + suggestion[1:]
    remedy = "Unset HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "Connect to the network"
    return (
        f"{remedy}, or name a model's folder. (The model mini needs no download, but it knows only openxclip's "
        "rendered playground.)"
    )


def _check_home(name: str, cache_dir: str | Path | None, *, downloads: bool) -> None:
    """Refuse a cache in an unknown home folder, for which huggingface_hub would create a folder named `~` or fail."""
    from huggingface_hub import constants

    places = [cache_dir or constants.HF_HUB_CACHE, *([constants.HF_HOME] if downloads else [])]
    if any(str(user_path(place)).startswith("~") for place in places):
        raise CheckpointError(
            f"{name}: there is no folder for the hub's cache, because this user has no home folder. Set HF_HOME to a "
            "writable folder."
        )


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload with openxclip",
    create_pr: bool = False,
) -> str:
    """Upload every file of `folder` to a hub repository, created if needed, and return the URL of the commit."""
    import huggingface_hub

    api = huggingface_hub.HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id, folder_path=str(folder), revision=revision, commit_message=commit_message, create_pr=create_pr
    )
    return str(commit.commit_url)


def save_and_push(save: Callable[[str], object], repo_id: str, **push_options: Any) -> str:
    """Call `save` with a temporary folder, upload the folder, and return the URL of the commit; see `push_folder`."""
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        return push_folder(folder, repo_id, **push_options)


def check_push_options(push_options: Mapping[str, Any], push_to_hub: bool) -> None:
    """Raise TypeError if options of `push_folder` are given and nothing is pushed."""
    if push_options and not push_to_hub:
        raise TypeError(f"save_pretrained: {', '.join(push_options)}: no such argument without push_to_hub=True.")


def cached_models(cache_dir: str | Path | None = None) -> list[str]:
    """Return the sorted hub ids of the X-CLIPs in the hub's cache, which is by default huggingface_hub's own."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    _check_home("the hub's models", cache_dir, downloads=False)
    try:
        repos = scan_cache_dir(cache_dir).repos
    except CacheNotFound:
        return []
    except ValueError as error:  # the cache's path is a file
        raise CheckpointError(f"the hub's cache can't be read: {error}") from error
    return sorted(repo.repo_id for repo in repos if repo.repo_type == "model" and _is_xclip(repo))


def _is_xclip(repo: Any) -> bool:
    for revision in repo.revisions:
        path = revision.snapshot_path / "config.json"
        try:
            if path.is_file() and read_json(path).get("model_type") == "xclip":
                return True
        except CheckpointError:
            continue  # an incomplete download
    return str(repo.repo_id).split("/")[-1].lower().startswith("xclip")
