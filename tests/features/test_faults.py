"""Why a picture could not be prepared: told by format, wherever a file is cut or damaged."""

import io
import struct
import zlib

import pytest
from PIL import Image

from tests.features.pictures import encoded, noise, plain
from xhash_ray.corpus.pairs import KINDS
from xhash_ray.features import faults
from xhash_ray.features.containers import ends_early, format_of
from xhash_ray.features.faults import Fault, fault_of, unfit
from xhash_ray.features.framing import Framing, decode_one
from xhash_ray.storage.pictures import FORMATS, PIXEL_LIMIT, open_picture

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, about the damage
FRAMING = Framing({"size": 16})
FILES = {kind: encoded(noise("RGB", (50, 40)), kind) for kind in FORMATS}
VARIANTS = FILES | {
    "progressive JPEG": encoded(noise("RGB", (50, 40)), "JPEG", progressive=True),
    "lossless WEBP": encoded(noise("RGB", (50, 40)), "WEBP", lossless=True),
    "animated GIF": encoded(noise("P", (50, 40)), "GIF", save_all=True, append_images=[noise("P", (50, 40), 1)]),
    "TIFF, compressed": encoded(noise("RGB", (50, 40)), "TIFF", compression="tiff_lzw"),
    "BigTIFF": encoded(noise("RGB", (50, 40)), "TIFF", big_tiff=True),
}


def fault(content: bytes) -> Fault | None:
    try:
        decode_one(content, FRAMING)
    except Exception as error:
        return fault_of(error, content)
    return None


def kind(content: bytes) -> str:
    found = fault(content)
    return found.kind if found else "decoded"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "progressive JPEG", "lossless WEBP"])
def test_cut_anywhere_is_truncated(name):
    whole = VARIANTS[name]
    kinds = [kind(whole[:length]) for length in range(2, len(whole))]
    last = len(kinds) - kinds[::-1].index("truncated")
    assert set(kinds[:last]) == {"truncated"}
    assert set(kinds[last:]) <= {"decoded"}  # an end mark may be lacking, and checksums behind the pixels
    assert len(kinds) - last <= 24


@pytest.mark.parametrize("name", ["TIFF", "TIFF, compressed", "BigTIFF", "AVIF"])
def test_cut_anywhere_is_mostly_truncated(name):
    whole = VARIANTS[name]
    kinds = [kind(whole[:length]) for length in range(8, len(whole), 7)]
    assert set(kinds) <= {"truncated", "undecodable"}
    assert kinds.count("truncated") > 0.95 * len(kinds)


@pytest.mark.parametrize("name", VARIANTS)
def test_whole_files_end_where_they_should(name):
    whole = VARIANTS[name]
    found = format_of(whole)
    assert found == name.split(",")[0].split()[-1].replace("BigTIFF", "TIFF")
    assert found is not None
    assert not ends_early(found, whole)
    assert not ends_early(found, whole + bytes(10))
    assert kind(whole) == "decoded"


def test_an_animation_cut_behind_its_first_frame_is_that_frame():
    whole = VARIANTS["animated GIF"]
    assert ends_early("GIF", whole[:-100])
    assert decode_one(whole[:-100], FRAMING) == decode_one(whole, FRAMING)


def test_damage_in_the_middle_is_not_truncation():
    places = {"PNG": 3000, "WEBP": FILES["WEBP"].index(b"\x9d\x01\x2a"), "JPEG": FILES["JPEG"].index(b"\xff\xc0") + 4}
    for name, place in places.items():
        whole = bytearray(FILES[name])
        whole[place] ^= 255
        assert kind(bytes(whole)) == "undecodable", name


def test_a_thumbnails_end_is_not_the_pictures():
    whole = encoded(noise("RGB", (50, 40)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + FILES["JPEG"])
    assert whole.count(b"\xff\xd9") == 2
    assert ends_early("JPEG", whole[:-200])
    assert kind(whole[:-200]) == "truncated"


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"%PDF-1.4 and so on, and so on",
        b"BMW is a car maker, and this is a sentence",
        b"RIFF\x24\0\0\0WAVEfmt and so on",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"?",
        bytes(100),
        encoded(Image.new("RGB", (9, 9)), "EPS"),
        encoded(Image.new("RGB", (9, 9)), "PPM"),
        encoded(Image.new("RGB", (9, 9)), "ICO"),
        encoded(Image.new("RGB", (9, 9)), "PDF"),
    ],
)
def test_what_is_no_picture_of_ours_is_of_the_wrong_type(content):
    found = fault(content)
    assert found is not None
    assert found.kind == "wrong type"
    assert repr(content[:16]) in found.reason


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says how large it is."""
    whole = bytearray(plain(7))
    whole[16:24] = struct.pack(">II", width, height)
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    return bytes(whole)


@pytest.mark.parametrize("shape", [(8001, 8000), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (PIXEL_LIMIT + 1, 1)])
def test_bombs_are_oversized(shape):
    assert kind(bomb(*shape)) == "oversized"


def test_a_picture_at_the_limit_is_opened():
    assert open_picture(bomb(8000, 8000)).size == (8000, 8000)


def test_a_needle_is_oversized():
    assert kind(encoded(Image.new("L", (1, 250_001)), "PNG")) == "oversized"


def test_nothing_and_too_much_are_known_without_a_look():
    assert unfit(b"") == Fault("missing image", "image is empty")
    found = unfit(bytes(11), limit=10)
    assert found is not None
    assert found.kind == "oversized"
    assert "11 encoded bytes, more than 10" in found.reason
    assert unfit(bytes(10), limit=10) is None
    assert unfit(bytes(faults.ENCODED_LIMIT)) is None


def test_reasons_are_the_same_in_every_run():
    broken = FILES["JPEG"][:30]
    said = {str(fault(broken)) for _ in range(2)}
    assert len(said) == 1
    assert "0x" not in said.pop()
    error = ValueError(f"{io.BytesIO()} is\nno picture")
    assert fault_of(error, FILES["PNG"]).reason == "PNG cannot be decoded: <_io.BytesIO object> is no picture"
    assert fault_of(ValueError(), FILES["PNG"]).reason == "PNG cannot be decoded: ValueError"


def test_kinds_are_those_that_rejects_are_counted_by():
    contents = [b"", b"text, no picture", FILES["PNG"][:99], bomb(10_000, 10_000)]
    found = {(unfit(content) or fault(content)).kind for content in contents}
    assert found == {"missing image", "wrong type", "truncated", "oversized"}
    assert found | {fault_of(MemoryError(), b"GIF89a").kind, "undecodable", "timeout"} <= set(KINDS)
