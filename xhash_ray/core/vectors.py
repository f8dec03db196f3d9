"""The smallest Hamming distance in a run of codes, as vector instructions.

Codes of 1, 2 or 4 words lie in memory as they are stored, one code after the other. Compilers do not vectorise that:
the words of one code would have to be added across lanes. So the loop is written in LLVM's portable vectors of eight
64-bit lanes, which become VPOPCNTQ where the processor has it, and whatever it has elsewhere (AVX2, NEON).

    1 word    8 codes in a vector, their ones counted lane by lane
    2 words   two vectors give 8 codes: even lanes of both plus odd lanes of both
    4 words   four vectors give 8 codes: the same, then once more with pairs of lanes
"""

import functools
from collections.abc import Callable
from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
VECTORS = 4  # taken together, so that their latencies overlap
RUN_WORDS = LANES * VECTORS  # a run: 32 codes of one word, 16 of two, 8 of four
FOUR = 4
AHEAD_WORDS = 1024  # fetched 8 KiB ahead: up to a third more codes/s from memory, at 64 bits
FARTHEST = 1 << 20  # beyond any distance
WORD, INDEX = ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(WORD, LANES)
HALVES = ir.VectorType(INDEX, 2 * LANES)


def lanes(*numbers: int) -> ir.Constant:
    """A choice of lanes of two vectors; those of the second are counted from 8."""
    return ir.Constant(ir.VectorType(INDEX, len(numbers)), [ir.Constant(INDEX, number) for number in numbers])


IN_ORDER = {1: lanes(0, 1, 2, 3, 4, 5, 6, 7), 2: lanes(0, 2, 4, 6, 1, 3, 5, 7), 4: lanes(0, 4, 1, 5, 2, 6, 3, 7)}
EVEN, ODD = lanes(0, 8, 2, 10, 4, 12, 6, 14), lanes(1, 9, 3, 11, 5, 13, 7, 15)
LOWER, UPPER = lanes(0, 1, 8, 9, 4, 5, 12, 13), lanes(2, 3, 10, 11, 6, 7, 14, 15)


@intrinsic
@no_type_check  # shape checks would wrap what numba has to read
def popcount(typing_context: Any, word: Any) -> Any:
    """The number of ones in a 64-bit word, as one instruction that vectorises."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
@no_type_check
def trailing_zeros(typing_context: Any, word: Any) -> Any:
    """The number of the lowest one in a 64-bit word that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
@no_type_check
def borrowed(typing_context: Any, array: Any) -> Any:
    """The same array without its counter of references, which numba raises, atomically, wherever arrays are passed on.

    Four in five nanoseconds of a look at a block went there.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        made.meminfo = ir.Constant(made.meminfo.type, None)
        return made._getvalue()

    return array(array), generate


def nearest_in_run(words: int) -> Callable[..., Any]:
    """For numba: (codes, first, stop, queries, q) -> smallest distance of codes[first:stop] to query q.

    Codes of 1, 2 or 4 words; codes and queries are uint64 [n, words] in C order. (stop - first) * words must be a
    multiple of RUN_WORDS; what is left over is not looked at. Numbers, not slices: those count references, atomically.
    """

    @intrinsic
    @no_type_check
    def nearest(typing_context: Any, codes: Any, first: Any, stop: Any, queries: Any, q: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            run = row_of(context, builder, signature.args[0], arguments[0], arguments[1], words)
            query = row_of(context, builder, signature.args[3], arguments[3], arguments[4], words)
            count = builder.mul(builder.sub(arguments[2], arguments[1]), ir.Constant(WORD, words))
            return emit_nearest(builder, run, count, query, words)

        return types.int64(codes, types.int64, types.int64, queries, types.int64), generate

    return nearest


def below_in_run(words: int) -> Callable[..., Any]:
    """For numba: (codes, first, queries, q, limit) -> bit i is 1 where code first + i of a run is below the limit."""

    @intrinsic
    @no_type_check
    def below(typing_context: Any, codes: Any, first: Any, queries: Any, q: Any, limit: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            run = row_of(context, builder, signature.args[0], arguments[0], arguments[1], words)
            query = row_of(context, builder, signature.args[2], arguments[2], arguments[3], words)
            return emit_below(builder, run, query, arguments[4], words)

        return types.uint64(codes, types.int64, queries, types.int64, types.int64), generate

    return below


def nearest_of_several(words: int, together: int) -> Callable[..., Any]:
    """For numba: (codes, stride, first, stop, queries, q, nearest) fills nearest[: together].

    With the smallest distances of codes first to stop to the queries q, q + 1, ...: each load of a code serves all.
    Word w of code i lies at codes + w * stride + i. stop - first must be a multiple of LANES.
    """

    @intrinsic
    @no_type_check
    def several(
        typing_context: Any, codes: Any, stride: Any, first: Any, stop: Any, queries: Any, q: Any, nearest: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds, (codes, stride, first, stop, queries, q, nearest) = signature.args, arguments
            start = row_of(context, builder, kinds[0], codes, first, 1)
            lines = [builder.gep(start, [builder.mul(stride, ir.Constant(WORD, word))]) for word in range(words)]
            asked = [
                row_of(context, builder, kinds[4], queries, builder.add(q, ir.Constant(WORD, number)), words)
                for number in range(together)
            ]
            found = emit_several(builder, lines, builder.sub(stop, first), asked)
            target = row_of(context, builder, kinds[6], nearest, ir.Constant(WORD, 0), 1)
            for number, each in enumerate(found):
                builder.store(each, builder.gep(target, [ir.Constant(WORD, number)]))
            return context.get_dummy_value()

        whole = types.int64
        return types.void(codes, whole, whole, whole, queries, whole, nearest), generate

    return several


def row_of(context: Any, builder: Any, kind: Any, array: Any, row: Any, words: int) -> Any:
    """Where a row of a C-ordered array begins."""
    return builder.gep(
        context.make_array(kind)(context, builder, array).data, [builder.mul(row, ir.Constant(WORD, words))]
    )


def emit_nearest(builder: Any, run: Any, length: Any, query: Any, words: int) -> Any:
    """The loop over runs; returns the smallest distance."""
    pattern = repeated(builder, query, words)
    best = cgutils.alloca_once(builder, VECTOR)
    builder.store(ir.Constant(VECTOR, [ir.Constant(WORD, FARTHEST)] * LANES), best)
    with cgutils.for_range(builder, builder.udiv(length, ir.Constant(WORD, RUN_WORDS))) as loop:
        start = builder.gep(run, [builder.mul(loop.index, ir.Constant(WORD, RUN_WORDS))])
        fetch_ahead(builder, start)
        found = [builder.load(best), *distances(builder, start, pattern, words)]
        builder.store(functools.reduce(functools.partial(smaller, builder), found), best)
    return smallest_lane(builder, builder.load(best))


def smallest_lane(builder: Any, found: Any) -> Any:
    """The minimum of a vector's lanes."""
    return builder.call(named(builder, "llvm.vector.reduce.umin.v8i64", WORD, [VECTOR]), [found])


def emit_several(builder: Any, lines: list[Any], length: Any, queries: list[Any]) -> list[Any]:
    """The loop over codes whose words lie in lines; returns the smallest distance to each query."""
    patterns = [[repeated(builder, builder.gep(query, [ir.Constant(WORD, word)]), 1) for word in range(len(lines))]
                for query in queries]  # fmt: skip
    bests = [cgutils.alloca_once(builder, VECTOR) for _ in queries]
    for best in bests:
        builder.store(ir.Constant(VECTOR, [ir.Constant(WORD, FARTHEST)] * LANES), best)
    with cgutils.for_range(builder, builder.udiv(length, ir.Constant(WORD, LANES))) as loop:
        first = builder.mul(loop.index, ir.Constant(WORD, LANES))
        starts = [builder.gep(line, [first]) for line in lines]
        for best, pattern in zip(bests, patterns, strict=True):
            counts = [counted(builder, start, 0, each) for start, each in zip(starts, pattern, strict=True)]
            builder.store(smaller(builder, builder.load(best), functools.reduce(builder.add, counts)), best)
    return [smallest_lane(builder, builder.load(best)) for best in bests]


def emit_below(builder: Any, run: Any, query: Any, limit: Any, words: int) -> Any:
    """One run; returns a bit per code."""
    limits = ir.Constant(VECTOR, ir.Undefined)
    for lane in range(LANES):
        limits = builder.insert_element(limits, limit, ir.Constant(INDEX, lane))
    bits = ir.Constant(WORD, 0)
    for number, found in enumerate(distances(builder, run, repeated(builder, query, words), words)):
        in_order = builder.shuffle_vector(found, found, IN_ORDER[words])
        byte = builder.bitcast(builder.icmp_unsigned("<", in_order, limits), ir.IntType(LANES))
        bits = builder.or_(bits, builder.shl(builder.zext(byte, WORD), ir.Constant(WORD, LANES * number)))
    return bits


def distances(builder: Any, start: Any, pattern: Any, words: int) -> list[Any]:
    """The distances of one run of codes, eight in a vector."""
    counts = [counted(builder, start, number, pattern) for number in range(VECTORS)]
    if words > 1:
        counts = added(builder, counts, EVEN, ODD)
    return added(builder, counts, LOWER, UPPER) if words == FOUR else counts


def repeated(builder: Any, query: Any, words: int) -> Any:
    """The query's words, again and again over the lanes."""
    loaded = [builder.load(builder.gep(query, [ir.Constant(WORD, word)])) for word in range(words)]
    pattern = ir.Constant(VECTOR, ir.Undefined)
    for lane in range(LANES):
        pattern = builder.insert_element(pattern, loaded[lane % words], ir.Constant(INDEX, lane))
    return pattern


def fetch_ahead(builder: Any, start: Any) -> None:
    """Asks for the lines of a run that comes later; one beyond the end of memory is no error."""
    byte = ir.IntType(8).as_pointer()
    fetch = named(builder, "llvm.prefetch.p0", ir.VoidType(), [byte, INDEX, INDEX, INDEX])
    for number in range(VECTORS):
        later = builder.gep(start, [ir.Constant(WORD, number * LANES + AHEAD_WORDS)])
        read_often_data = [ir.Constant(INDEX, value) for value in (0, 3, 1)]
        builder.call(fetch, [builder.bitcast(later, byte), *read_often_data])


def counted(builder: Any, start: Any, number: int, pattern: Any) -> Any:
    """Differing bits of eight words with the pattern."""
    place = builder.bitcast(builder.gep(start, [ir.Constant(WORD, number * LANES)]), VECTOR.as_pointer())
    loaded = builder.load(place)
    loaded.align = 8
    return builder.call(named(builder, "llvm.ctpop.v8i64", VECTOR, [VECTOR]), [builder.xor(loaded, pattern)])


def added(builder: Any, counts: list[Any], first: Any, second: Any) -> list[Any]:
    """Half as many vectors, each the sum of two choices of lanes of two."""
    return [
        builder.add(builder.shuffle_vector(one, other, first), builder.shuffle_vector(one, other, second))
        for one, other in zip(counts[::2], counts[1::2], strict=True)
    ]


def smaller(builder: Any, one: Any, other: Any) -> Any:
    """The minimum of distances, lane by lane: as 32-bit numbers, for AVX2 has no minimum of wider ones."""
    minimum = named(builder, "llvm.umin.v16i32", HALVES, [HALVES, HALVES])
    found = builder.call(minimum, [builder.bitcast(one, HALVES), builder.bitcast(other, HALVES)])
    return builder.bitcast(found, VECTOR)


def named(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """One of LLVM's own functions."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)
