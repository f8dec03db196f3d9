"""What an HTTP request asks of an S3 server."""

from __future__ import annotations

from aiohttp import web

# HTTP method -> (query or header that must be there, operation); the first that fits.
OPERATIONS = {
    "GET": (("?list-type", "ListObjectsV2"), ("?uploads", "ListMultipartUploads"), ("?uploadId", "ListParts"),
            ("?location", "GetBucketLocation"), ("/", "GetObject"), ("", "ListObjects")),
    "HEAD": (("/", "HeadObject"), ("", "HeadBucket")),
    "PUT": (("?uploadId", "UploadPart"), ("@x-amz-copy-source", "CopyObject"), ("/", "PutObject"),
            ("", "CreateBucket")),
    "POST": (("?uploads", "CreateMultipartUpload"), ("?uploadId", "CompleteMultipartUpload"),
             ("?delete", "DeleteObjects")),
    "DELETE": (("?uploadId", "AbortMultipartUpload"), ("/", "DeleteObject"), ("", "DeleteBucket")),
}  # fmt: skip


def place_of(request: web.Request) -> str:
    """The bucket, or the bucket and a key; requests name the bucket in their path."""
    return request.path.lstrip("/").removesuffix("/")


def key_of(request: web.Request) -> str:
    """The bucket and the key that is asked for, or the prefix of which keys are listed."""
    return f"{place_of(request)}/{request.query['prefix']}" if request.query.get("prefix") else place_of(request)


def operation_of(request: web.Request) -> str:
    """Amazon's name of what is asked."""
    for sign, operation in OPERATIONS.get(request.method, ()):
        if not sign or (sign == "/" and "/" in place_of(request)):
            return operation
        if (sign[0] == "?" and sign[1:] in request.query) or (sign[0] == "@" and sign[1:] in request.headers):
            return operation
    return request.method


def is_listing(request: web.Request) -> bool:
    """Whether keys are listed."""
    return operation_of(request) in ("ListObjectsV2", "ListObjects")
