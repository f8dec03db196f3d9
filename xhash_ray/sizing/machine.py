"""A machine, as `xhash bench machine` measured it: the constants of every plan, in a JSON file with units in its keys.

The file is meant to be read and, for prices and the network, edited by hand. Keys that nobody knows are refused: a
misspelt price would be no price.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xhash_ray.config import help_of, option
from xhash_ray.errors import BadInput, Mismatch, nearest
from xhash_ray.storage import uri as places

FORMAT_VERSION = 1
AGAIN = "Write it anew with `xhash bench machine --out FILE`"


class Scan(NamedTuple):
    """How fast codes are compared with some queries at once, on all cores.

    Attributes:
        bits: Of a code.
        queries: That share the scan.
        codes_per_s: Codes scanned a second, each counted once however many queries look at it.
    """

    bits: int
    queries: int
    codes_per_s: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The constants. Seconds are wall time of one thing alone, CPU seconds what it costs while others wait."""

    cores: int = option("that a process may use")
    memory_bytes: int = option("of the machine")
    read_bytes_per_s: float = option("at which all cores together read memory")
    k: int = option("hits wanted in all that follows")
    scans: tuple[Scan, ...] = option("bits, queries that share a scan, codes_per_s")
    resident_per_code_byte: float = option("bytes of memory per byte of codes that is loaded")
    process_bytes: int = option("of a process that serves, without any codes")
    load_bytes_per_s: float = option("codes read from files that are in memory, and checked")
    answer_s: float = option("of a query's answer after its scan: its ids, their order")
    request_s: float = option("of a request beside both, from the caller and back")
    request_cpu_s: float = option("of it, in the gateway's process")
    caller_cpu_s: float = option("of it, in the load generator's")
    answer_bytes: int = option("of k hits over HTTP")
    group_s: float = option("more, where shards lie in processes of their own")
    group_cpu_s: float = option("more, per request and such process, in the gateway's")
    group_own_cpu_s: float = option("of the same, in that process, beside its scan")
    encoder_s: float = option("of the way to the encoder and back")
    encoder_gateway_cpu_s: float = option("of it, in the gateway's process")
    encoder_own_cpu_s: float = option("of it, in the encoder's")
    model: str = option("CLIP architecture of the next four")
    text_s: float = option("of encoding one text")
    text_cpu_s: float = option("of a text among 32")
    image_s: float = option("of decoding and encoding one image")
    image_cpu_s: float = option("of an image among 8")
    encode_pairs_per_s: float = option("features to codes, on all cores")
    build_pairs_per_s: float = option("codes to segments of an index, on one core")
    network_bytes_per_s: float | None = option("of its network; not measured", None)
    price_per_hour: float | None = option("of one such machine", None)
    price_per_gb_month: float | None = option("of object storage", None)
    price_per_1000_puts: float | None = option("of requests that write", None)
    price_per_1000_gets: float | None = option("of requests that read", None)
    host: Mapping[str, Any] = option("what was measured, with what, when", {})


FIELDS = {field.name: field for field in dataclasses.fields(Machine)}
OPTIONAL = {name for name, field in FIELDS.items() if field.default is None}
DIFFERENCES = {
    "answer_s",
    "caller_cpu_s",
    "group_s",
    "group_cpu_s",
    "group_own_cpu_s",
    "encoder_s",
    "encoder_gateway_cpu_s",
    "encoder_own_cpu_s",
}
MAY_BE_ZERO = {*DIFFERENCES, *OPTIONAL}  # of two measurements: it can be nothing


def write_machine(uri: str, machine: Machine) -> None:
    """Writes the file, in one step; an older one is replaced."""
    values = {name: getattr(machine, name) for name in FIELDS}
    values["scans"] = [scan._asdict() for scan in machine.scans]
    places.write_json(places.normalise(uri), {"format_version": FORMAT_VERSION, **values, "host": dict(machine.host)})


def read_machine(uri: str) -> Machine:
    """Reads the file.

    Raises:
        BadInput: when it is not there, is no JSON object, lacks a key, has one that is unknown, or holds a value that
            no machine has.
        Mismatch: when a newer version has written it.
    """
    if not places.exists(places.normalise(uri)):
        raise BadInput(f"machine file {uri}", "not there", AGAIN)
    values = places.read_json(places.normalise(uri))
    version = values.pop("format_version", None)
    if not isinstance(version, int) or version < 1:
        raise BadInput(f"machine file {uri}", f"format_version {version!r}", AGAIN)
    if version > FORMAT_VERSION:
        do = "Use that version of xhash-ray, or measure again with this one"
        raise Mismatch(f"machine file {uri}", f"format_version {version}, this version reads {FORMAT_VERSION}", do)
    return machine_of(values, f"machine file {uri}")


def machine_of(values: Mapping[str, Any], asked: str) -> Machine:
    """A machine from loose values. Errors as of `read_machine`."""
    for name in values:
        if name not in FIELDS:
            raise BadInput(asked, f"unknown key '{name}'", nearest(name, FIELDS)[:400])
    for name, field in FIELDS.items():
        if name not in values and name not in OPTIONAL and name != "host":
            raise BadInput(asked, f"no '{name}' ({help_of(field)})", AGAIN)
    checked = {name: value_of(name, value, asked) for name, value in values.items()}
    return Machine(**checked)


def value_of(name: str, value: Any, asked: str) -> Any:
    """A value of the right kind and size. Raises BadInput."""
    if name == "scans":
        return scans_of(value, asked)
    if name in ("model", "host"):
        if not isinstance(value, str if name == "model" else dict):
            raise BadInput(asked, f"{name} = {value!r}"[:200], AGAIN)
        return value
    if value is None and name in OPTIONAL:
        return None
    return number(value, name, asked, zero=name in MAY_BE_ZERO)


def scans_of(value: Any, asked: str) -> tuple[Scan, ...]:
    """The scans, by bits and queries. Raises BadInput when there are none, or one lacks something."""
    if not isinstance(value, list) or not value:
        raise BadInput(asked, "no scans", AGAIN)
    for each in value:
        if not isinstance(each, dict) or set(each) != set(Scan._fields):
            raise BadInput(asked, f"scans holds {each!r}"[:200], f"Give each {', '.join(Scan._fields)}")
        for name in Scan._fields:
            number(each[name], f"scans: {name}", asked)
    return tuple(sorted(Scan(**each) for each in value))


def number(value: Any, name: str, asked: str, zero: bool = False) -> Any:
    """A finite number above (or at) zero. Raises BadInput for anything else."""
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not right or value < 0 or (value == 0 and not zero):
        raise BadInput(asked, f"{name} = {value!r}"[:200], f"Give a number {'of at least' if zero else 'above'} 0")
    return value
