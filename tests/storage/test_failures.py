"""What clients say, word for word as they said it before tests/faulty_store.py, and what it is taken for."""

import errno
import socket

import aiohttp
import botocore.exceptions
import pytest
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from xhash_ray.errors import BadInput, Unreachable, XhashError
from xhash_ray.storage import failures
from xhash_ray.storage import uri as places
from xhash_ray.storage.failures import UnusableStore, storage_error

HEAD = "When reading information for key 'k' in bucket 'b': AWS Error {} during HeadObject operation: {}"
GET = "AWS Error {} during GetObject operation: {} (Request ID: X)"
NAMED = "Unable to parse ExceptionName: {} Message: m"
NETWORK = "NETWORK_CONNECTION"

ARROW = [
    (GET.format("SLOW_DOWN", "Please reduce your request rate."), Unreachable, "fewer requests"),
    (GET.format("SERVICE_UNAVAILABLE", ""), Unreachable, "store failed"),
    (GET.format("INTERNAL_FAILURE", "We encountered an internal error."), Unreachable, "store failed"),
    (GET.format("REQUEST_TIMEOUT", "Your socket connection"), Unreachable, "store failed"),
    (GET.format("UNKNOWN (HTTP status 502)", ""), Unreachable, "store failed"),
    (GET.format("UNKNOWN (HTTP status 503)", NAMED.format("SlowDownRead")), Unreachable, "store failed"),
    (HEAD.format("UNKNOWN (HTTP status 503)", "No response body."), Unreachable, "store failed"),
    (HEAD.format(NETWORK, "curlCode: 56, Failure when receiving data from the peer"), Unreachable, "network"),
    (HEAD.format(NETWORK, "curlCode: 18, Transferred a partial file"), Unreachable, "half of one"),
    (HEAD.format(NETWORK, "curlCode: 28, Timeout was reached"), Unreachable, "no answer"),
    (HEAD.format(NETWORK, "curlCode: 7, Could not connect to server"), Unreachable, "AWS_ENDPOINT_URL"),
    (HEAD.format(NETWORK, "curlCode: 35, TLS connect error: error::wrong version number"), UnusableStore, "TLS"),
    (HEAD.format(NETWORK, "curlCode: 60, SSL peer certificate was not OK"), UnusableStore, "certificates"),
    (HEAD.format("ACCESS_DENIED", "No response body."), BadInput, "permission denied"),
    (GET.format("INVALID_ACCESS_KEY_ID", "The AWS Access Key Id"), UnusableStore, "AWS_ACCESS_KEY_ID"),
    (GET.format("SIGNATURE_DOES_NOT_MATCH", "The request"), UnusableStore, "AWS_SECRET_ACCESS_KEY"),
    (GET.format("UNKNOWN (HTTP status 400)", NAMED.format("ExpiredToken")), UnusableStore, "have expired.*Renew"),
    (HEAD.format("UNKNOWN (HTTP status 400)", "No response body."), UnusableStore, "refuses.*may have expired"),
    (HEAD.format("UNKNOWN (HTTP status 301)", "Looks like the configured region is"), UnusableStore, "another region"),
    (GET.format("REQUEST_TIME_TOO_SKEWED", "x"), UnusableStore, "clock"),
    (GET.format("NO_SUCH_BUCKET", "The specified bucket does not exist"), UnusableStore, "no such bucket"),
    (GET.format("RESOURCE_NOT_FOUND", ""), BadInput, "no such file"),
    (GET.format("UNKNOWN (HTTP status 400)", NAMED.format("EntityTooLarge")), XhashError, "TooLarge"),
    ("Couldn't deserialize thrift: No more data to read.", XhashError, "thrift"),
]


@pytest.mark.parametrize(("text", "kind", "words"), ARROW)
def test_what_pyarrow_says(text, kind, words):
    assert_taken_for(OSError(text), kind, words)


def assert_taken_for(error: Exception, kind: type[XhashError], words: str) -> None:
    """That it becomes an error of exactly this kind, in one line with these words."""
    with pytest.raises(kind, match=words) as raised, places.said_clearly("s3://b/k", "writing"):
        raise error
    assert type(raised.value) is kind
    assert str(raised.value).startswith("writing s3://b/k: ")
    assert "\n" not in str(raised.value)


def client_error(code: str, status: int, operation: str = "GetObject") -> Exception:
    """As s3fs raises it."""
    answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(botocore.exceptions.ClientError(answer, operation))


CLIENT = [
    ("SlowDown", 503, "PutObject", Unreachable, "fewer requests"),
    ("503", 503, "HeadObject", Unreachable, "store failed"),
    ("500", 500, "HeadObject", Unreachable, "store failed"),
    ("502", 502, "PutObject", Unreachable, "store failed"),
    ("InternalError", 500, "PutObject", Unreachable, "store failed"),
    ("SlowDownWrite", 503, "PutObject", Unreachable, "store failed"),
    ("RequestTimeout", 400, "PutObject", Unreachable, "store failed"),
    ("NoSuchUpload", 404, "CompleteMultipartUpload", Unreachable, "store failed"),
    ("ConditionalRequestConflict", 409, "PutObject", Unreachable, "store failed"),
    ("BadDigest", 400, "PutObject", Unreachable, "store failed"),
    ("AccessDenied", 403, "PutObject", BadInput, "permission denied.*bucket policy"),
    ("403", 403, "HeadObject", BadInput, "permission denied"),
    ("400", 400, "HeadObject", UnusableStore, "may have expired"),
    ("ExpiredToken", 400, "PutObject", UnusableStore, "have expired"),
    ("ExpiredToken", 403, "PutObject", UnusableStore, "have expired"),
    ("InvalidAccessKeyId", 403, "PutObject", UnusableStore, "AWS_ACCESS_KEY_ID"),
    ("SignatureDoesNotMatch", 403, "PutObject", UnusableStore, "AWS_SECRET_ACCESS_KEY"),
    ("RequestTimeTooSkewed", 403, "PutObject", UnusableStore, "clock"),
    ("NoSuchBucket", 404, "PutObject", UnusableStore, "no such bucket"),
    ("PermanentRedirect", 301, "PutObject", UnusableStore, "AWS_DEFAULT_REGION"),
    ("NoSuchKey", 404, "GetObject", BadInput, "no such file"),
    ("404", 404, "GetObject", BadInput, "no such file.*AWS_ENDPOINT_URL"),
    ("", 404, "PutObject", UnusableStore, "no S3 store"),
    ("404", 404, "ListObjectsV2", UnusableStore, "no S3 store"),
    ("501", 501, "PutObject", UnusableStore, "no S3 store"),
    ("405", 405, "PutObject", UnusableStore, "no S3 store"),
    ("XMinioStorageFull", 507, "PutObject", XhashError, "no space"),
    ("MalformedXML", 400, "PutObject", XhashError, "Check the name"),
]


@pytest.mark.parametrize(("code", "status", "operation", "kind", "words"), CLIENT)
def test_what_s3fs_raises(code, status, operation, kind, words):
    assert_taken_for(client_error(code, status, operation), kind, words)


def test_an_answer_that_became_a_timeout_on_its_way_is_still_known():
    error = FSTimeoutError()
    error.__cause__ = client_error("RequestTimeout", 400)
    assert_taken_for(error, Unreachable, "store failed")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"), Unreachable, "network"),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="http://x"), Unreachable, "network"),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"), Unreachable, "network"),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="http://x"), Unreachable, "network"),
        (botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), Unreachable, "half of one"),
        (aiohttp.ClientPayloadError("Response payload is not completed"), Unreachable, "half of one"),
        (aiohttp.ServerDisconnectedError(), Unreachable, "network"),
        (botocore.exceptions.SSLError(endpoint_url="x", error="CERTIFICATE_VERIFY_FAILED"), UnusableStore, "TLS"),
        (botocore.exceptions.NoCredentialsError(), UnusableStore, "AWS_ACCESS_KEY_ID"),
        (botocore.exceptions.PartialCredentialsError(provider="env", cred_var="x"), UnusableStore, "AWS_SECRET"),
        (botocore.exceptions.ParamValidationError(report='Invalid bucket name "B"'), UnusableStore, "no such bucket"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), Unreachable, "network"),
        (OSError(errno.ENOSPC, "No space left on device"), XhashError, "free space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), XhashError, "free space"),
        (IsADirectoryError("x"), BadInput, "a folder"),
    ],
)
def test_what_connections_and_disks_raise(error, kind, words):
    assert_taken_for(error, kind, words)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(socket.EAI_NONAME, UnusableStore), (socket.EAI_AGAIN, Unreachable)],
)
def test_a_name_that_nobody_knows_is_told_from_a_name_server_that_is_away(monkeypatch, number, kind):
    def refuses(*_):
        raise socket.gaierror(number, "x")

    monkeypatch.setattr(socket, "getaddrinfo", refuses)
    text = "curlCode: 6, Could not resolve hostname; Details: Could not resolve host: no-such-host"
    assert_taken_for(OSError(HEAD.format(NETWORK, text)), kind, "AWS_ENDPOINT_URL")
    error = botocore.exceptions.EndpointConnectionError(endpoint_url="http://no-such-host")
    error.__cause__ = socket.gaierror(number, "x")
    assert_taken_for(error, kind, "AWS_ENDPOINT_URL")


def test_a_mistake_of_ours_on_the_way_to_an_error_is_not_part_of_it():
    mistake = KeyError("timed out")
    error = OSError("odd")
    error.__cause__ = mistake
    assert type(storage_error("s3://b/k", error)) is XhashError


def test_what_clients_say_is_cut_and_put_in_one_line():
    told = str(storage_error("s3://b/k", OSError("AWS Error SLOW_DOWN during X operation:\n" + "long " * 500)))
    assert "\n" not in told
    assert len(told) < 500


def test_rows_of_the_table_have_a_remedy_and_signs_of_their_own():
    signs = [sign for row in failures.TABLE for sign in row.signs.split()]
    assert len(signs) == len(set(signs))
    assert all(row.do and row.found for row in failures.TABLE)
