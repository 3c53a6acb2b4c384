"""Mutations of bytes, by which a fuzzer changes valid input."""

from collections.abc import Sequence

from hypothesis import strategies as st

INTERESTING = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n",
    b'"',
    b"\\",
    b"[",
    b"{",
    b"-0",
    b"1e999",
)
"""Bytes at which parsers differ."""


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes], most_bytes: int = 20_000) -> bytes:
    """Draw a sample with up to eight mutations: bytes removed, replaced, inserted, repeated or taken from a sample."""
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 64)))
        match draw(st.sampled_from(("remove", "replace", "insert", "repeat", "splice", "cut"))):
            case "remove":
                data = data[:start] + data[end:]
            case "replace":
                data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
            case "insert":
                data = data[:start] + draw(st.sampled_from(INTERESTING)) + data[start:]
            case "repeat":
                data = data[:end] + data[start:end] * draw(st.integers(1, 500)) + data[end:]
            case "splice":
                other = draw(st.sampled_from(samples))
                data = data[:start] + other[draw(st.integers(0, len(other))) :]
            case _:
                data = data[:end]
        data = data[:most_bytes]
    return data
