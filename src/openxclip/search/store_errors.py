"""Say in one sentence what an object store's error means.

LanceDB and obstore use the same client for object stores, so their errors have the same texts.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from openxclip.search.sql import first_line

SCHEMES = ("s3", "gs", "az")
AMBIENT = ("AWS_", "GOOGLE_", "AZURE_")  # prefixes of the environment variables of object stores

_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified (bucket|container) does not exist", re.IGNORECASE)
_BAD_CREDENTIALS = re.compile(
    r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|InvalidClientTokenId|AuthFailure|"
    r"AuthenticationFailed|UnrecognizedClient|AuthorizationHeaderMalformed|invalid_grant|Unauthenticated"
)
_NO_CREDENTIALS = re.compile(
    r"169\.254\.169\.254|metadata\.google\.internal|CredentialsNotLoaded|no providers in chain|"
    r"failed to load.{0,20}credentials|missing credentials|credential.{0,40}(not enabled|not loaded|not found)",
    re.IGNORECASE,
)
_DENIED = re.compile(r"AccessDenied|AuthorizationPermissionMismatch|403 Forbidden|lacked the necessary privileges")
_NO_REGION = re.compile(r"Failed to resolve region")  # asked of AWS, if neither a region nor an endpoint is set
_PLAIN_HTTP = re.compile(r"URL scheme is not allowed|BadScheme")
_OVERLOADED = re.compile(
    r"SlowDown|ServiceUnavailable|InternalError|TooManyRequests|ServerBusy|"
    r"\b(429|500|502|503|504) (Too Many|Internal|Bad Gateway|Service|Gateway)"
)
_NO_ANSWER = re.compile(
    r"error sending request|connect error|connection (refused|reset|closed)|dns error|timed ?out|kind: Timeout|"
    r"broken pipe|dispatch failure|request or response body error|end of file before message length|IncompleteMessage|"
    r"error decoding response body|channel closed",
    re.IGNORECASE,
)
_ENDPOINT = re.compile(r"https?://[^/\s)\"'?,]+")
_CODE = re.compile(r"<Code>(\w+)</Code>")

_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if they are temporary)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL and AWS_REGION", "gs": "the network", "az": "AZURE_STORAGE_ENDPOINT"}


class Problem(NamedTuple):
    """What is wrong with an object store.

    Attributes:
        message: one sentence, which begins with the address.
        may_pass: whether the same call may succeed later.
        is_without_credentials: whether no credentials were found.
    """

    message: str
    may_pass: bool
    is_without_credentials: bool = False


def is_remote(uri: str) -> bool:
    """Return whether an address is in an object store."""
    return "://" in uri and not uri.startswith("file://")


def problem_of(uri: str, error: BaseException) -> Problem | None:
    """Return what an error of LanceDB or obstore says about an object store; None if it isn't about access to it.

    Args:
        uri: address of the store: `s3://bucket/…`, `gs://…` or `az://…`.
        error: the error, whose text names requests and the store's answer.
    """
    if not is_remote(uri):
        return None
    details = _texts(error)
    text = details.partition("\nDebug source:")[0]
    scheme, bucket = urlsplit(uri).scheme, urlsplit(uri).netloc
    keys = _KEYS.get(scheme, "the store's environment variables")
    code = match[1] if (match := _CODE.search(text)) else ""
    reason = f" ({code})" if code else ""
    endpoint = next((found for found in _ENDPOINT.findall(text) if "169.254." not in found), "its address")
    if _NO_BUCKET.search(text):
        what = "container" if scheme == "az" else "bucket"
        return Problem(f"{uri}: there is no {what} {bucket}: make it, or correct the name.", False)
    if _NO_CREDENTIALS.search(text) and not _has_keys(scheme):
        return Problem(f"{uri}: no credentials were found: set {keys}.", False, True)
    if _BAD_CREDENTIALS.search(text):
        return Problem(f"{uri}: the store refuses the credentials{reason}: check {keys}.", False)
    if _DENIED.search(text):
        return Problem(f"{uri}: access is denied{reason}: these credentials may not do this there.", False)
    if _NO_REGION.search(text):
        hint = "set AWS_REGION, or AWS_ENDPOINT_URL for another store than AWS."
        return Problem(f"{uri}: AWS doesn't say in which region the bucket {bucket} is: {hint}", False)
    if _PLAIN_HTTP.search(details):
        return Problem(f"{uri}: the endpoint is http, without encryption: set AWS_ALLOW_HTTP=true to allow it.", False)
    if _OVERLOADED.search(text):
        return Problem(f"{uri}: the store is overloaded or faulty{reason}: try again later.", True)
    if _NO_ANSWER.search(text):
        settings = _ENDPOINTS.get(scheme, "the network")
        return Problem(f"{uri}: the store doesn't answer at {endpoint}: check {settings}, or try again later.", True)
    return None


def sentence_of(uri: str, error: BaseException, otherwise: str) -> str:
    """Return one sentence about an error: the object store's problem if it has one, or else the error's first line.

    Args:
        uri: address of the store or folder.
        error: the error.
        otherwise: what couldn't be done; the sentence is `uri: otherwise: first line`.
    """
    problem = problem_of(uri, error)
    return problem.message if problem else f"{uri}: {otherwise}: {first_line(error)}"


def _has_keys(scheme: str) -> bool:
    names = {"s3": "AWS_ACCESS_KEY_ID", "gs": "GOOGLE_", "az": "AZURE_STORAGE_ACCOUNT_KEY"}
    name = names.get(scheme)
    return name is None or any(variable.startswith(name) and value for variable, value in os.environ.items())


def _texts(error: BaseException) -> str:
    """Return the texts of an error and of those that caused it."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(texts) < 5:
        texts.append(f"{type(current).__name__}: {current}")
        current = current.__cause__ or current.__context__
    return "\n".join(texts)
