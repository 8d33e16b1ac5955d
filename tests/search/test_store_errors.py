"""What errors of object stores mean, in the words of LanceDB 0.40 and obstore 0.12."""

from __future__ import annotations

import pytest

from openxclip.search.connecting import storage_options
from openxclip.search.store_errors import problem_of, sentence_of

URI = "s3://archive/deep/one.index"
NAMESPACE = 'Invalid input, Failed to connect to namespace: IO { source: Generic { store: "S3", source: ListRequest { '
REQUEST = "Error performing GET http://127.0.0.1:9000/archive?list-type=2 in 5.4ms"
LISTING = "uri: Some(http://127.0.0.1:9000/archive?list-type=2), retries: 0, max_retries: 3, retry_timeout: 180s, "
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if they are temporary)"


def answer(status: str, code: str) -> str:
    return f"{REQUEST} - Server returned non-2xx status code: {status}: <Error><Code>{code}</Code></Error>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (answer("404 Not Found", "NoSuchBucket"), "there is no bucket archive: make it, or correct the name."),
        (
            NAMESPACE + LISTING + 'status: 404, body: Some("<Error><Code>NoSuchBucket</Code></Error>") }',
            "there is no bucket archive: make it, or correct the name.",
        ),
        (
            answer("403 Forbidden", "SignatureDoesNotMatch"),
            f"the store refuses the credentials (SignatureDoesNotMatch): check {KEYS}.",
        ),
        (
            answer("403 Forbidden", "AccessDenied"),
            "access is denied (AccessDenied): these credentials may not do this there.",
        ),
        (
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1ms",
            f"no credentials were found: set {KEYS}.",
        ),
        (
            NAMESPACE + 'Failed to get AWS credentials: CredentialsNotLoaded(CredentialsNotLoaded { source: None })',
            f"no credentials were found: set {KEYS}.",
        ),
        (
            f"{REQUEST} - HTTP error: builder error\n\nDebug source:\nkind: Builder,\nsource: BadScheme",
            "the endpoint is http, without encryption: set AWS_ALLOW_HTTP=true to allow it.",
        ),
        (
            "LanceError(IO): Generic S3 error: Failed to resolve region for bucket 'archive'",
            "AWS doesn't say in which region the bucket archive is: set AWS_REGION, or AWS_ENDPOINT_URL for "
            "another store than AWS.",
        ),
    ],
)  # fmt: skip
def test_what_does_not_pass(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    problem = problem_of(URI, ValueError(text))
    assert problem is not None
    assert (problem.message, problem.may_pass) == (f"{URI}: {expected}", False)


@pytest.mark.parametrize(
    "text",
    [
        f"lance error: LanceError(IO): Generic S3 error: {REQUEST} - HTTP error: error sending request",
        NAMESPACE + LISTING + "inner: Http(HttpError { kind: Timeout, source: reqwest::Error { kind: Request } })",
        NAMESPACE + LISTING + 'ConnectError("tcp connect error", 127.0.0.1:9000, Os { code: 111 })',
    ],
)
def test_no_answer_may_pass(text: str) -> None:
    problem = problem_of(URI, RuntimeError(text))
    assert problem is not None
    assert problem.may_pass
    assert problem.message == (
        f"{URI}: the store doesn't answer at http://127.0.0.1:9000: check AWS_ENDPOINT_URL and AWS_REGION, or try "
        "again later."
    )


@pytest.mark.parametrize("answered", [("503 Service Unavailable", "SlowDown"), ("500 Internal Server Error", "X")])
def test_an_overloaded_store_may_pass(answered: tuple[str, str]) -> None:
    problem = problem_of(URI, RuntimeError(answer(*answered)))
    assert problem is not None
    assert problem.may_pass
    assert f"the store is overloaded or faulty ({answered[1]})" in problem.message


@pytest.mark.parametrize(
    "text", ["No field named durations", NAMESPACE + LISTING + "status: 400", "corrupt file: expected 8 bytes"]
)
def test_other_errors_are_not_about_access(text: str) -> None:
    assert problem_of(URI, ValueError(text)) is None
    assert sentence_of(URI, ValueError("bad: x\nmore"), "can't be read") == f"{URI}: can't be read: bad: x"


def test_the_cause_of_an_error_is_looked_at() -> None:
    error = ValueError("something else")
    error.__cause__ = RuntimeError(answer("404 Not Found", "NoSuchBucket"))
    problem = problem_of(URI, error)
    assert problem is not None
    assert "there is no bucket" in problem.message


def test_a_folder_has_no_problems_of_stores_and_no_options() -> None:
    assert problem_of("archive.index", ValueError(answer("404 Not Found", "NoSuchBucket"))) is None
    assert storage_options("archive.index") == {}


def test_options_of_a_store_follow_the_patience() -> None:
    assert storage_options(URI, 30)["read_timeout"] == "5.0s"
    assert storage_options(URI, 600)["read_timeout"] == "30.0s"
