"""What went wrong with a place, told from what file systems and S3 clients raise: a table, read from the top.

    UnusableStore   credentials, bucket, region, endpoint, clock: nothing can be read or written until that is put right
    BadInput        this file or object: it is not there, is a folder, may not be touched
    Unreachable     of the moment: overload, errors of the server, connections that end, answers that do not come
    XhashError      anything else

pyarrow says everything in the text of an OSError, with the names of Amazon's C++ SDK (SLOW_DOWN); s3fs raises what
Python has for a code, with botocore's error as its cause (SlowDown); aiohttp and botocore have classes for connections.
Codes are compared in lower case without underscores. Answers to HEAD have no body, so no code, only a status.

Source: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and the texts that pyarrow 26 and s3fs 2026.9 give
before tests/faulty_store.py.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from xhash_ray.errors import BadInput, Unreachable, XhashError

ENDPOINT, NETWORK = "Check AWS_ENDPOINT_URL", "Check AWS_ENDPOINT_URL and the network"
LATER = "Run it again later, or with fewer workers"
DETAIL_CHARACTERS = 240
CLIENTS = {"botocore", "aiobotocore", "aiohttp"}
ARROW_ERROR = re.compile(r"AWS Error ([A-Z_]+)(?: \(HTTP status (\d+)\))?(?: during (\w+) operation)?")
ARROW_CODE = re.compile(r"ExceptionName: (\w+)")
CURL_HOST = re.compile(r"Could not resolve host: ([^\s,;]+)")
TELLING = {408, 429, 500, 502, 503, 504, 507}  # servers have codes of their own, such as MinIO's SlowDownRead
OF_OBJECTS = {"HeadObject", "GetObject"}  # whatever else finds nothing found no store, or no bucket


class UnusableStore(BadInput):
    """The store cannot be used as it was named; that says nothing of the object that was asked for."""


@dataclass(frozen=True)
class Diagnosis:
    """A row of the table.

    Attributes:
        kind: Of the error to raise.
        found: What people are told, before what the client said.
        do: The remedy.
        signs: Codes of the store, names of exception classes, and HTTP statuses, separated by spaces.
        words: Parts of the client's text, separated by "|".
        terse: Whether what the client said is left out.
    """

    kind: type[XhashError]
    found: str
    do: str
    signs: str = ""
    words: str = ""
    terse: bool = False

    def fits(self, symptoms: Symptoms) -> bool:
        """Whether one of the signs or words is there."""
        if not symptoms.signs.isdisjoint(self.signs.split()):
            return True
        return any(word in symptoms.text for word in self.words.split("|") if word)


NOTHING_THERE = Diagnosis(
    BadInput, "no such file, folder or bucket", "Check the name",
    "FileNotFoundError NotADirectoryError nosuchkey resourcenotfound 404",
)  # fmt: skip
KEYS = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
TABLE = (
    Diagnosis(
        UnusableStore, "the credentials have expired", "Renew them and run it again",
        "expiredtoken expiredtokenexception requestexpired tokenrefreshrequired",
    ),
    Diagnosis(
        UnusableStore, "the store does not take these credentials", KEYS,
        "invalidaccesskeyid signaturedoesnotmatch invalidtoken invalidsecurity missingauthenticationtoken notsignedup "
        "invalidclienttokenid unrecognizedclient incompletesignature accountproblem "
        "NoCredentialsError PartialCredentialsError ProfileNotFound UnauthorizedSSOTokenError",
    ),
    Diagnosis(
        UnusableStore, "this machine's clock is not the store's", "Set the clock", "requesttimetooskewed",
    ),
    Diagnosis(
        UnusableStore, "no such bucket", "Check the name and AWS_ENDPOINT_URL, or create the bucket",
        "nosuchbucket invalidbucketname", "Invalid bucket name", terse=True,
    ),
    Diagnosis(
        UnusableStore, "the bucket is in another region", "Set AWS_DEFAULT_REGION",
        "permanentredirect authorizationheadermalformed 301", "configured region is",
    ),
    Diagnosis(
        UnusableStore, "no TLS connection to be trusted", "Check AWS_ENDPOINT_URL (http or https) and certificates",
        words="CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|wrong version number|curlCode: 60|curlCode: 77",
    ),
    Diagnosis(UnusableStore, "no machine of that name", ENDPOINT, "nosuchhost"),
    Diagnosis(UnusableStore, "what answers is no S3 store", ENDPOINT, "nostore methodnotallowed 405 501"),
    Diagnosis(
        Unreachable, "the store asks for fewer requests", LATER,
        "slowdown throttling throttlingexception requestlimitexceeded toomanyrequests toomanyrequestsexception 429",
    ),
    Diagnosis(
        Unreachable, "the store failed", LATER,
        "internalerror internalfailure serviceunavailable requesttimeout operationaborted conditionalrequestconflict "
        "nosuchupload incompletebody baddigest xamzcontentsha256mismatch FileExpired 408 409 500 502 503 504",
    ),
    Diagnosis(
        Unreachable, "no answer, or half of one", NETWORK,
        "networkconnection ConnectionError TimeoutError HTTPClientError ClientConnectionError ClientPayloadError "
        "ClientOSError IncompleteReadError CredentialRetrievalError ResponseParserError gaierror",
        "timed out|Network is unreachable|No route to host",
    ),
    Diagnosis(BadInput, "permission denied", "Check credentials and bucket policy", "accessdenied allaccessdisabled"),
    Diagnosis(
        BadInput, "permission denied", "Check credentials and bucket policy", "PermissionError 401 403", terse=True,
    ),
    NOTHING_THERE,
    Diagnosis(BadInput, "a folder", "Name a file", "IsADirectoryError", terse=True),
    Diagnosis(
        UnusableStore, "the store refuses the request", "Check the credentials, which may have expired, and the region",
        "bare400",
    ),
    Diagnosis(XhashError, "no space", "Make free space, and run it again", "507", "No space left|quota"),
)  # fmt: skip
UNKNOWN = Diagnosis(XhashError, "", "Check the name, the endpoint and free space")


@dataclass(frozen=True)
class Symptoms:
    """What an error and its causes say: signs as of `Diagnosis`, and their texts."""

    signs: set[str]
    text: str


def is_of_storage(error: BaseException) -> bool:
    """Whether a file system or a store's client raised it (the latter's errors do not all derive from OSError)."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in CLIENTS


def storage_error(uri: str, error: Exception, doing: str = "opening") -> XhashError:
    """An error of a file system or a store's client as the error of this project that fits it.

    Args:
        uri: The place.
        error: What was raised.
        doing: What was tried with the place.
    """
    found = diagnosis(error)
    if found is NOTHING_THERE:
        return nothing_at(uri, doing)
    text = " ".join(str(error).split())
    detail = "" if found.terse else text[max(0, text.find("AWS Error")) :][:DETAIL_CHARACTERS].rstrip(".")
    said = f"{found.found} ({detail})" if found.found and detail else found.found or detail or type(error).__name__
    return found.kind(f"{doing} {uri}", said, found.do)


def nothing_at(uri: str, doing: str = "reading") -> BadInput:
    """Nothing is there; a server that is no store says the same of every key."""
    do = f"{NOTHING_THERE.do} and AWS_ENDPOINT_URL" if "s3://" in uri else NOTHING_THERE.do
    return BadInput(f"{doing} {uri}", NOTHING_THERE.found, do)


def diagnosis(error: Exception) -> Diagnosis:
    """The first row of the table that fits."""
    symptoms = Symptoms(set(), "")
    for link in chain(error):
        here = symptoms_of(link)
        symptoms = Symptoms(symptoms.signs | here.signs, f"{symptoms.text} {here.text}")
    return next((row for row in TABLE if row.fits(symptoms)), UNKNOWN)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those of storage that it came of, latest first."""
    link: BaseException | None = error
    while link is not None and (link is error or is_of_storage(link)):
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def symptoms_of(error: BaseException) -> Symptoms:
    """What one error says, its causes left aside."""
    text = " ".join(str(error).split())
    signs = {name.__name__ for name in type(error).__mro__} - {"object"}
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        signs |= signs_of(str(answer.get("Error", {}).get("Code", "")), status, getattr(error, "operation_name", ""))
    elif said := ARROW_ERROR.search(text):
        code = ARROW_CODE.search(text)
        name = code[1] if code else said[1].removeprefix("UNKNOWN")
        signs |= signs_of(name, int(said[2] or 0), said[3] or "")
    if is_nameless(error, text):
        signs.add("nosuchhost")
    return Symptoms(signs, text)


def signs_of(code: str, status: int, operation: str) -> set[str]:
    """The signs of a store's answer; a status counts where there is no code, or says what to do whatever the code."""
    if code and not code.isdigit():
        return {code.replace("_", "").lower()} | ({str(status)} if status in TELLING else set())
    status = int(code or status)
    if status == 400:
        return {"bare400"}
    if status == 404 and operation not in OF_OBJECTS:
        return {"nostore"}
    return {str(status)}


def is_nameless(error: BaseException, text: str) -> bool:
    """Whether a machine's name is known to nobody; a name server that does not answer leaves that open.

    curl does not tell the two apart, so its names are looked up once more.
    """
    if isinstance(error, socket.gaierror):
        return error.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
    asked = CURL_HOST.search(text)
    if not asked:
        return False
    try:
        socket.getaddrinfo(asked[1], None)
    except socket.gaierror as refused:
        return is_nameless(refused, "")
    except UnicodeError:
        return True
    return False
