"""Randomness as a pure function of (seed, step, purpose, index): no generator, no state."""

import math
from hashlib import blake2b

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featviz.shapes import Seeds, Steps

Streams = Int64[Tensor, " batch"]
"""Where each row's random numbers start: one well-mixed 64-bit key a row."""

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_BITS = 24  # the significand of float32, so that every dtype sees the same uniform number


def uniform(
    seeds: Seeds,
    steps: Steps,
    *,
    purpose: str,
    count: int,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "batch count"]:
    """Numbers in [0, 1), multiples of 2**-24, row by row the same in any batch and slot."""
    words = _words(streams(seeds, steps, purpose=purpose), count)
    return _top_bits(words, below=64).to(dtype) * 2.0**-_BITS


def normal(
    seeds: Seeds,
    steps: Steps,
    *,
    purpose: str,
    count: int,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "batch count"]:
    """Standard normal numbers, |value| < 5.8, row by row the same in any batch and slot."""
    return normal_from_streams(streams(seeds, steps, purpose=purpose), count=count, dtype=dtype)


def normal_from_streams(
    streams: Streams, *, count: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "batch count"]:
    """Standard normal numbers of streams that are already known (for draws of unknown size).

    Source: Box and Muller 1958. One hash gives a pair: 24 bits for the radius, 24 for the angle.
    """
    words = _words(streams, (count + 1) // 2)
    radius = (_top_bits(words, below=64) + 1).to(dtype).mul_(2.0**-_BITS)  # in (0, 1]
    radius = radius.log_().mul_(-2).sqrt_()
    angle = _top_bits(words, below=64 - _BITS).to(dtype).mul_(2 * math.pi * 2.0**-_BITS)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]


def streams(seeds: Seeds, steps: Steps, *, purpose: str) -> Streams:
    """One key a row; another seed, step or purpose is another stream.

    Seed and step are mixed one after the other, so that (seed, step + 1) and (seed + 1, step)
    have nothing in common.
    """
    keys = _mixed(seeds + _key(purpose))
    return _mixed(keys + (steps + 1) * _signed(_GOLDEN))


def _key(purpose: str) -> int:
    digest = blake2b(purpose.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _words(streams: Streams, count: int) -> Int64[Tensor, "batch count"]:
    """The first `count` 64-bit words of every stream."""
    indices = torch.arange(1, count + 1, device=streams.device)
    # Sum first, then product: torch 2.15's CPU compiler writes out of bounds for the other order.
    return _mixed((streams[:, None] + indices).mul_(_signed(_GOLDEN)))


def _mixed(words: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """Every bit of the result depends on every bit of the word; overwrites its argument.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", with
    the constants of splitmix64. int64 products wrap, which is arithmetic modulo 2**64.
    """
    words = words.bitwise_xor_(_shifted_right(words, 30)).mul_(_signed(_FIRST))
    words = words.bitwise_xor_(_shifted_right(words, 27)).mul_(_signed(_SECOND))
    return words.bitwise_xor_(_shifted_right(words, 31))


def _shifted_right(words: Int64[Tensor, "..."], count: int) -> Int64[Tensor, "..."]:
    # torch's >> copies the sign bit; the mask makes it a logical shift.
    return (words >> count).bitwise_and_((1 << (64 - count)) - 1)


def _top_bits(words: Int64[Tensor, "..."], *, below: int) -> Int64[Tensor, "..."]:
    """The 24 bits under bit number `below`, as an integer in [0, 2**24)."""
    return (words >> (below - _BITS)).bitwise_and_((1 << _BITS) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
