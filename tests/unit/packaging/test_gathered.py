"""A slice's own weights in one file: the same bytes, however they are read."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lamella.errors import SlicesError
from lamella.packaging.gathered import ALIGNMENT_BYTES, GatheredWeights, Piece, next_start
from lamella.slicing.weights import PAGE_BYTES


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(np.random.default_rng(0).bytes(300_000))
    return path


def gathered(source: Path, *ranges: tuple[int, int]) -> GatheredWeights:
    pieces: list[Piece] = []
    end = 0
    for offset, length in ranges:
        start = next_start(end, offset, length)
        pieces.append(Piece(source, offset, length, start))
        end = start + length
    return GatheredWeights("slice.data", tuple(pieces))


RANGES = ((5, 2_000), (100_001, 150_000), (3_000, 70_000), (0, 0), (299_999, 1))


def test_weights_are_found_where_they_were_put(source: Path, tmp_path: Path) -> None:
    weights = gathered(source, *RANGES)
    weights.write(tmp_path / "written")
    written, original = (tmp_path / "written").read_bytes(), source.read_bytes()
    assert len(written) == weights.size
    covered = np.zeros(weights.size, bool)
    for piece in weights.pieces:
        end = piece.start + piece.length
        assert written[piece.start : end] == original[piece.offset : piece.offset + piece.length]
        covered[piece.start : end] = True
    assert not np.frombuffer(written, np.uint8)[~covered].any()


def test_file_digest_and_buffers_agree(source: Path, tmp_path: Path) -> None:
    weights = gathered(source, *RANGES)
    weights.write(tmp_path / "written")
    written = (tmp_path / "written").read_bytes()
    assert weights.sha256 == hashlib.sha256(written).hexdigest()
    assert b"".join(weights.buffers()) == written


def test_large_weights_keep_their_place_in_a_page_and_small_ones_lie_close() -> None:
    assert next_start(0, 5, 2_000) == 0
    assert next_start(2_000, 7, 2_000) % ALIGNMENT_BYTES == 0
    assert next_start(2_000, 7, 2_000) - 2_000 < ALIGNMENT_BYTES
    start = next_start(2_000, 3 * PAGE_BYTES + 17, 1 << 20)
    assert start % PAGE_BYTES == 17
    assert start >= 2_000


def test_a_file_that_ended_is_an_error(source: Path) -> None:
    weights = gathered(source, (100, 1_000))
    source.write_bytes(b"short")
    with pytest.raises(SlicesError, match="source` ended while it was read"):
        _ = weights.sha256


def test_an_empty_file_holds_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    weights = gathered(tmp_path / "empty", (0, 0))
    assert weights.buffers() == []
    assert weights.sha256 == hashlib.sha256(b"").hexdigest()
