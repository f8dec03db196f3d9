"""The API against its own description (Schemathesis), and against what no description allows for: no 500, ever."""

import asyncio
import io
import random

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.serving.test_http import ADMIN, served  # noqa: F401 (fixtures)
from xhash_ray.errors import BadInput
from xhash_ray.features.clip import EncoderFacts, Preprocessor
from xhash_ray.serving import http
from xhash_ray.storage.pictures import PIXEL_LIMIT

schema = schemathesis.openapi.from_asgi("/openapi.json", http.http_api())
QUIET = settings(
    deadline=None, max_examples=25, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


@schema.include(path_regex=r"^/(v1|healthz|readyz)").parametrize()
@QUIET
def test_every_route_keeps_to_its_description(case, served):  # noqa: F811
    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {ADMIN}"}
    response = case.call()
    checks = schemathesis.checks
    case.validate_response(
        response,
        checks=[
            checks.not_a_server_error,
            checks.CHECKS.get_one("status_code_conformance"),
            checks.CHECKS.get_one("content_type_conformance"),
            checks.CHECKS.get_one("response_schema_conformance"),
        ],
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("text", "image", "code", "vector", "id", "source", "target", "k", "filter", "rescore", "candidates")


@settings(parent=QUIET, max_examples=150)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_a_body_of_anything_is_no_error_of_ours(served, body):  # noqa: F811
    try:
        response = served.post("/v1/search", json=body)
    except ValueError:  # NaN and lone surrogates, which JSON has no words for
        return
    assert response.status_code < 500, response.text


WORDS = ["number", "`number`", "nmber", "=", "!=", "<", ">=", "in", "and", "or", "not", "exists", "(", ")", "[", "]"]
WORDS += [",", "1", "-2.5", "1e999", "9" * 40, '"x"', "'y'", '"', "true", "\\", "\0", "id", "`", "é", "null"]


@settings(parent=QUIET, max_examples=300)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=40))
def test_a_filter_of_anything_is_a_filter_or_refused(served, text):  # noqa: F811
    response = served.post("/v1/search", json={"code": "0102", "filter": text})
    assert response.status_code in {200, 400}, (text, response.text)


def picture(kind: str, size=(40, 30), mode="RGB") -> bytes:
    """An encoded picture."""
    made = io.BytesIO()
    Image.new(mode, size, 7).save(made, kind)
    return made.getvalue()


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    """Of a small model, without its weights."""
    preprocessing = {"size": 32, "mode": "RGB", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    preprocessing |= {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
    return Preprocessor(EncoderFacts("xhash-tiny", "", "", 64, preprocessing))


def refused(preprocessor: Preprocessor, content: bytes) -> str:
    """Why bytes are no picture; "" where they are one."""
    try:
        assert preprocessor.image(content).shape == (3, 32, 32)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_pictures_that_were_damaged_are_pictures_or_refused(preprocessor, kind):
    whole, drawn = picture(kind), random.Random(5)
    assert preprocessor.image(whole).shape == (3, 32, 32)
    for _ in range(150):
        damaged = bytearray(whole[: drawn.randrange(len(whole))] if drawn.random() < 0.5 else whole)
        for _ in range(drawn.randrange(1, 8)):
            if damaged:
                damaged[drawn.randrange(len(damaged))] = drawn.randrange(256)
        why = refused(preprocessor, bytes(damaged))
        assert why == "" or "image" in why
    assert refused(preprocessor, whole[:20])


def test_bombs_and_formats_that_start_programs_are_refused(preprocessor):
    side = int(PIXEL_LIMIT**0.5) + 100
    with pytest.raises(ValueError, match=r"pixels|decompression bomb"):
        preprocessor.image(picture("PNG", (side, side), "1"))
    for content in (picture("EPS"), picture("PPM"), picture("PDF"), b"", b"\0" * 100, b"GIF89a"):
        with pytest.raises(ValueError, match="cannot be decoded"):
            preprocessor.image(content)


@pytest.mark.parametrize("numbers", [[np.nan], [np.inf], [1e300], []])
def test_vectors_that_are_none_are_refused(numbers):
    from types import SimpleNamespace

    from xhash_ray.serving.query_encoder import QueryEncoder

    encoder = SimpleNamespace(facts={"image_length": max(1, len(numbers))})
    with pytest.raises(BadInput, match="vector query"):
        QueryEncoder.vector(encoder, "image", numbers)


def test_nothing_is_written_that_json_cannot_say():
    assert http.plain({"a": float("nan"), "b": np.float32(1)}).body == b'{"a":null,"b":"1.0"}'
    assert asyncio.run(http.healthz()) == {"status": "ok"}
