"""From a model's name to a folder on this machine, and back: local paths, the shipped model, the Hugging Face hub."""

from __future__ import annotations

import difflib
import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from openxclip.common.files import cannot_read, reason_of, user_path
from openxclip.errors import CheckpointError

HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
_UNNEEDED = frozenset(
    {"_commit_hash", "_from_auto", "_from_pipeline", "code_revision", "proxies", "resume_download", "trust_remote_code"}
)
SHIPPED_MODELS = ("mini",)
DEFAULT_MODEL = "microsoft/xclip-base-patch32"
#: Suffixes by which a name is known to be that of a file of weights. (Reading goes by content.)
WEIGHTS_SUFFIXES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".safetensors"})
_SIMILAR = 0.75  # of difflib's ratio: one wrong letter in four, or two exchanged
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
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
    subfolder: str = "",
    allow_patterns: Sequence[str] | None = None,
) -> Path:
    """The local folder that holds what `name_or_path` names; hub repositories are downloaded into the cache first.

    Args:
        name_or_path: a folder; a name in `SHIPPED_MODELS` (write `./mini` for a folder of that name); or a hub id.
        revision: branch, tag or commit of a hub repository.
        cache_dir: where downloads are kept; default is huggingface_hub's own cache.
        local_files_only: take only what is in the cache already.
        token: for private repositories; True takes the one that was saved by logging in.
        force_download: download even what is in the cache.
        subfolder: a folder inside the one that is named.
        allow_patterns: the files that are wanted from a hub repository, as glob patterns; None is all.

    Raises:
        CheckpointError: there is no such folder or repository, or the hub can't be reached.
    """
    name = str(name_or_path)
    if not name:
        raise CheckpointError("the model's name is empty.")
    if name in SHIPPED_MODELS:
        return Path(__file__).parent / "models" / name / subfolder
    path = user_path(name_or_path)
    if os.path.isdir(path):  # noqa: PTH112 (Path's raises an error of too long a name)
        folder = path / subfolder
        try:
            os.stat(os.path.join(folder, "."))  # noqa: PTH116, PTH118 (Path drops the point, which asks for leave to enter)
        except PermissionError as error:
            raise CheckpointError(cannot_read(folder, error)) from error
        except (OSError, ValueError):
            raise CheckpointError(f"{path}: has no folder {subfolder!r}.") from None
        return folder
    if os.path.exists(path):  # noqa: PTH110
        raise CheckpointError(f"{path}: is a file; a model is a folder with config.json and weights in it.")
    if path.suffix.lower() in WEIGHTS_SUFFIXES:
        raise CheckpointError(f"{name}: there is no such file: {similar_name(name) or 'check the path.'}")
    if isinstance(name_or_path, Path) or not _looks_like_hub_id(name):
        raise CheckpointError(
            f"{name}: there is no such folder, and it is neither a shipped model ({', '.join(SHIPPED_MODELS)}) "
            f"nor a hub id such as {DEFAULT_MODEL}" + (f": {hint}" if (hint := similar_name(name)) else ".")
        )
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    return (
        _download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            force_download=force_download,
            allow_patterns=None if allow_patterns is None else [prefix + pattern for pattern in allow_patterns],
        )
        / subfolder
    )


def parted_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of a `from_pretrained`, parted into those of `resolve_folder` and all others.

    What transformers takes too and what needs nothing here is left out: no code of a repository is ever run, and
    downloads always resume.

    Raises:
        ValueError: `proxies` are given.
    """
    if options.get("proxies"):
        raise ValueError("proxies= is not taken: set HTTPS_PROXY in the environment.")
    given = {name: value for name, value in options.items() if name not in _UNNEEDED}
    if (older := given.pop("use_auth_token", None)) is not None:
        given.setdefault("token", older)
    hub_options = {name: given.pop(name) for name in HUB_OPTIONS if name in given}
    hub_options["subfolder"] = hub_options.get("subfolder") or ""
    return hub_options, given


def existing_file(name_or_path: str | Path) -> Path | None:
    """The file that it names, or None where it names a folder, a shipped model or a hub id."""
    if not str(name_or_path) or str(name_or_path) in SHIPPED_MODELS:
        return None
    path = user_path(name_or_path)
    return path if os.path.isfile(path) else None  # noqa: PTH113 (Path's raises an error of too long a name)


def similar_name(name: str, cache_dir: str | Path | None = None) -> str:
    """The question "did you mean …?" where a model's name is close to that of one that there is; else nothing."""
    cached: list[str] = []
    with suppress(CheckpointError, OSError):
        cached = [model.name for model in cached_models(cache_dir)]
    ids = (*cached, *RELEASED_MODELS)
    beside: list[str] = []
    with suppress(OSError, ValueError):
        path = user_path(name)
        close = difflib.get_close_matches(path.name, os.listdir(path.parent), cutoff=_SIMILAR)  # noqa: PTH208
        beside = [name.removesuffix(path.name) + one for one in close if _is_model(path.with_name(one))]
    known = [*beside, *SHIPPED_MODELS, *ids]
    if name in known:  # it is spelt right, and something else is wrong
        return ""
    by_text = {one.split("/")[-1]: one for one in ids if "/" not in name}  # the owner was left out
    by_text |= {one.casefold(): one for one in known}
    found = difflib.get_close_matches(name.casefold(), by_text, n=1, cutoff=_SIMILAR)
    return f"did you mean {by_text[found[0]]}?" if found else ""


def _is_model(path: Path) -> bool:
    return path.suffix.lower() in WEIGHTS_SUFFIXES or any(
        (path / config).is_file() for config in ("config.json", "open_clip_config.json")
    )


def content_of(folder: Path) -> str:
    """The first few names in a folder, for a sentence on what isn't in it."""
    try:
        return ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"  # noqa: PTH208
    except OSError as error:
        return f"what it holds can't be listed: {reason_of(error)}"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; CheckpointError if there is none."""
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
    """Whether it is OWNER/NAME. The hub's few ids without an owner are not of X-CLIPs or CLIPs."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in __all__

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _download(
    repo_id: str,
    *,
    revision: str | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
    token: str | bool | None,
    force_download: bool,
    allow_patterns: list[str] | None,
) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    _check_home(repo_id, cache_dir, downloads=not local_files_only)

    def snapshot(offline: bool) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                repo_id,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=offline,
                token=token,
                force_download=force_download and not offline,
                allow_patterns=allow_patterns,
            )
        )

    try:
        return snapshot(local_files_only)
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{repo_id}: access must be asked for on its hub page; then log in with `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        hint = similar_name(repo_id, cache_dir)
        raise CheckpointError(
            f"{repo_id}: no such repository on the hub (or a private one: log in with `hf auth login`), "
            "and no such folder here" + (f": {hint}" if hint else ".")
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{repo_id}: has no revision {revision!r} on the hub.") from error
    except errors.LocalEntryNotFoundError as error:
        at = "" if revision is None else f", revision {revision!r},"
        where = f"{repo_id}{at}: is not in the local cache"
        if local_files_only:
            hint = similar_name(repo_id, cache_dir)
            raise CheckpointError(where + (f": {hint}" if hint else ".")) from error
        why = "HF_HUB_OFFLINE is set" if huggingface_hub.constants.HF_HUB_OFFLINE else "the hub can't be reached"
        raise CheckpointError(f"{where}, and {why}. {_instead(repo_id, cache_dir)}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        if getattr(error, "filename", None) is not None:  # a file of the cache, not the network
            raise CheckpointError(
                f"{repo_id}: can't be kept in the hub's cache: {error.filename}: {reason_of(error)}. Set HF_HOME to a "
                "folder that can be written, on a disk with room."
            ) from error
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise CheckpointError(
                f"{repo_id}: can't be downloaded: the disk is full. Make room, or set HF_HOME to a folder elsewhere."
            ) from error
        raise CheckpointError(
            f"{repo_id}: the hub can't be reached ({type(error).__name__}). {_instead(repo_id, cache_dir)}"
        ) from error


def _instead(name: str, cache_dir: str | Path | None) -> str:
    """What helps where a model can't be downloaded: another spelling, or another model."""
    from huggingface_hub import constants

    if hint := similar_name(name, cache_dir):
        return hint[0].upper() + hint[1:]
    helps = "Unset HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "Connect to the network"
    return (
        f"{helps}, or name a model's folder. (The model mini needs no download, but it knows only openxclip's rendered "
        "playground.)"
    )


def _check_home(what: str, cache_dir: str | Path | None, *, downloads: bool) -> None:
    """Refuse a cache whose folder isn't known: huggingface_hub would make a folder that is called `~`, or fail."""
    from huggingface_hub import constants

    places = [cache_dir or constants.HF_HUB_CACHE, *([constants.HF_HOME] if downloads else [])]
    if any(str(user_path(place)).startswith("~") for place in places):
        raise CheckpointError(
            f"{what}: there is no folder for the hub's cache, because this user has no home folder. Set HF_HOME to a "
            "folder that can be written."
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
    """Upload every file of `folder` to the hub repository `repo_id`, which is made if it doesn't exist.

    Returns:
        The address of the commit.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=str(folder),
        revision=revision,
        commit_message=commit_message,
        create_pr=create_pr,
    )
    return str(commit.commit_url)


class CachedModel(NamedTuple):
    """An X-CLIP that was downloaded from the hub and lies in its cache.

    Attributes:
        name: hub id.
        bytes_on_disk: of all its revisions together.
        last_used: seconds since 1970, as the file system has it.
        folder: of this repository in the cache.
    """

    name: str
    bytes_on_disk: int
    last_used: float
    folder: Path


def cached_models(cache_dir: str | Path | None = None) -> list[CachedModel]:
    """The X-CLIPs in the hub's cache, by name; models of other kinds, which other programs put there, are left out.

    Args:
        cache_dir: default is huggingface_hub's own cache.
    """
    return sorted(
        CachedModel(repo.repo_id, repo.size_on_disk, repo.last_accessed, repo.repo_path)
        for repo in _cached_repos(cache_dir)
    )


def remove_cached(names: Iterable[str], cache_dir: str | Path | None = None) -> int:
    """Delete these X-CLIPs from the hub's cache.

    Returns:
        The bytes freed.

    Raises:
        CheckpointError: one of them is not in the cache (then none is deleted), or can't be deleted.
    """
    import shutil

    cached = {model.name: model for model in cached_models(cache_dir)}
    wanted = list(dict.fromkeys(names))
    missing = [name for name in wanted if name not in cached]
    if missing:
        there = ", ".join(cached) or "none"
        raise CheckpointError(f"{', '.join(missing)}: not among the X-CLIPs in the hub's cache (there: {there}).")
    try:
        for name in wanted:
            shutil.rmtree(cached[name].folder)
    except OSError as error:
        raise CheckpointError(f"{name}: can't be deleted from the hub's cache: {reason_of(error)}.") from error
    return sum(cached[name].bytes_on_disk for name in wanted)


def _cached_repos(cache_dir: str | Path | None) -> list[Any]:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    _check_home("the hub's models", cache_dir, downloads=False)
    try:
        repos = scan_cache_dir(cache_dir).repos
    except CacheNotFound:
        return []
    except ValueError as error:  # the cache's path is a file
        raise CheckpointError(f"the hub's cache can't be read: {error}") from error
    return [repo for repo in repos if repo.repo_type == "model" and _is_xclip(repo)]


def _is_xclip(repo: Any) -> bool:
    for revision in repo.revisions:
        path = revision.snapshot_path / "config.json"
        try:
            if path.is_file() and read_json(path).get("model_type") == "xclip":
                return True
        except CheckpointError:
            continue  # a torn download
    return str(repo.repo_id).split("/")[-1].lower().startswith("xclip")
