"""A machine with round figures, to compute with."""

import dataclasses
from typing import Any

from xhash_ray.sizing.machine import Machine, Scan

ROUND = Machine(
    cores=4,
    memory_bytes=64 * 10**9,
    read_bytes_per_s=20e9,
    k=100,
    scans=(Scan(64, 1, 2e9), Scan(64, 8, 1e9), Scan(64, 32, 0.4e9)),
    resident_per_code_byte=1.0,
    process_bytes=10**9,
    load_bytes_per_s=1e9,
    answer_s=0.0,
    request_s=0.003,
    request_cpu_s=0.001,
    caller_cpu_s=0.0005,
    answer_bytes=5000,
    group_s=0.002,
    group_cpu_s=0.0001,
    group_own_cpu_s=0.0001,
    encoder_s=0.002,
    encoder_gateway_cpu_s=0.0005,
    encoder_own_cpu_s=0.0005,
    model="xhash-tiny",
    text_s=0.004,
    text_cpu_s=0.002,
    image_s=0.02,
    image_cpu_s=0.016,
    encode_pairs_per_s=20_000,
    build_pairs_per_s=300_000,
    host={"processor": "of paper"},
)


def machine(**changed: Any) -> Machine:
    """The machine, some of it changed."""
    return dataclasses.replace(ROUND, **changed)
