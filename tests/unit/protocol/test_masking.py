from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatecast.protocol.masking import MaskChecker


def _frame(payload: int, *, masked: bool, opcode: int = 0x81) -> bytes:
    bit = 0x80 if masked else 0
    if payload < 126:
        head = bytes([opcode, bit | payload])
    elif payload < 65_536:
        head = bytes([opcode, bit | 126]) + payload.to_bytes(2, "big")
    else:
        head = bytes([opcode, bit | 127]) + payload.to_bytes(8, "big")
    # A payload that looks like unmasked frames.
    return head + (b"\x00" * 4 if masked else b"") + b"\x81" * payload


_SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 300, 65_535, 65_536, 70_000])


@given(
    sizes=st.lists(_SIZES, max_size=4),
    unmasked=st.none() | st.tuples(_SIZES, st.sampled_from([0x81, 0x82, 0x88, 0x89, 0x8A, 0x01])),
    cuts=st.lists(st.integers(1, 400), max_size=12),
)
def test_what_comes_before_the_first_unmasked_frame_is_passed_however_it_is_cut(
    sizes: list[int], unmasked: tuple[int, int] | None, cuts: list[int]
) -> None:
    """And nothing after it."""
    good = b"".join(_frame(size, masked=True) for size in sizes)
    bad = b"" if unmasked is None else _frame(unmasked[0], masked=False, opcode=unmasked[1])
    checker, passed, rest = MaskChecker(), b"", good + bad
    for cut in [*cuts, len(rest)]:
        if checker.broken:
            break
        passed += checker.passed(rest[:cut])
        rest = rest[cut:]
    assert passed == good
    assert checker.broken == (unmasked is not None)


def test_one_byte_of_a_head_tells_nothing_and_is_held_back() -> None:
    checker = MaskChecker()
    assert checker.passed(b"\x8a") == b""
    assert checker.passed(b"\x80") == b"\x8a\x80"
    assert checker.passed(b"\x00\x00\x00\x00\x81") == b"\x00\x00\x00\x00"
    assert not checker.broken
    assert checker.passed(b"\x05hello") == b""
    assert checker.broken
