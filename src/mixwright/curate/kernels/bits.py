"""64 bytes at a time: what bytes are as the bits of one integer, and what machine words tell about such integers.

An *address* (int64) is that of a byte in memory, ``array.ctypes.data + at``; whoever gives one vouches that the bytes read
there exist: 64 for ``within``, 8 for ``eight``. Bit j of a mask is about the byte at ``address + j``.
LLVM turns each into one to three instructions of the processor at hand (AVX-512, AVX2, NEON).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from mixwright.curate.compiled import instruction

_BYTE, _WORD, _LANES = ir.IntType(8), ir.IntType(64), 64
_BYTES = ir.VectorType(_BYTE, _LANES)


def _everywhere(builder: Any, value: Any) -> Any:
    """A vector with one byte in all its lanes."""
    undefined, lane = ir.Constant(_BYTES, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, value, ir.Constant(lane, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(lane, _LANES), [0] * _LANES))


@instruction
def within(context: Any, address: Any, low: Any, span: Any) -> Any:
    """The mask of the 64 bytes with ``low <= byte <= low + span``, all uint8, wrapping at 256."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, low, span = arguments
        bytes_ = builder.load(builder.inttoptr(place, _BYTES.as_pointer()), align=1)
        above = builder.sub(bytes_, _everywhere(builder, low))
        return builder.bitcast(builder.icmp_unsigned("<=", above, _everywhere(builder, span)), _WORD)

    return types.uint64(types.int64, types.uint8, types.uint8), generate


@instruction
def letter(context: Any, address: Any, small: Any) -> Any:
    """The mask of the 64 bytes that are an ASCII letter, given as a small one, in either case."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, small = arguments
        bytes_ = builder.load(builder.inttoptr(place, _BYTES.as_pointer()), align=1)
        folded = builder.or_(bytes_, _everywhere(builder, ir.Constant(_BYTE, 0x20)))
        return builder.bitcast(builder.icmp_unsigned("==", folded, _everywhere(builder, small)), _WORD)

    return types.uint64(types.int64, types.uint8), generate


@instruction
def eight(context: Any, address: Any) -> Any:
    """The 8 bytes at an address as one uint64, the first byte lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], _WORD.as_pointer()), align=1)

    return types.uint64(types.int64), generate


@instruction
def ones(context: Any, mask: Any) -> Any:
    """How many bits of a uint64 are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@instruction
def lowest(context: Any, mask: Any) -> Any:
    """Which bit of a uint64 is the lowest set one; 64 where none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@instruction
def highest(context: Any, mask: Any) -> Any:
    """Which bit of a uint64 is the highest set one; -1 where none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(_WORD, 63), zeros)

    return types.int64(types.uint64), generate
