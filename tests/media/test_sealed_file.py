"""Sealed files: what goes in comes out, for whoever has the key; anything else is noticed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import OurError
from media.sealed_file import MOST_CHUNK, SealedFile, SealedWriter

KEY = bytes(range(32))
HEAD = 20
PLACE = 12 + 8 + HEAD + 16
CHUNKS_AT = 44 + 2 * PLACE
_NUMBERS = itertools.count()


def written(folder: Path, *pieces: bytes, end: bool = True, head: bytes = b"h" * HEAD) -> Path:
    path = folder / "new" / f"{next(_NUMBERS)}.mka"
    writer = SealedWriter(path, KEY, HEAD)
    writer.head(b"before".ljust(HEAD))
    for piece in pieces:
        writer.append(piece)
    writer.head(head)
    if end:
        writer.close()
    else:
        writer.abandon()
    return path


def test_it_is_read_as_it_was_written_and_says_nothing_to_others(tmp_path: Path) -> None:
    path = written(tmp_path, b"first secret", b"second secret")
    with SealedFile(path, KEY) as file:
        assert not file.cut
        assert file.size == HEAD + 25
        assert file.read(0, 1000) == b"h" * HEAD + b"first secretsecond secret"
        assert file.read(file.size, 5) == file.read(10_000, 5) == b""
    assert b"secret" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_the_same_twice_does_not_look_the_same(tmp_path: Path) -> None:
    one, other = (written(tmp_path, b"s" * 64, b"s" * 64).read_bytes() for _ in range(2))
    pieces = [data[at : at + 16] for data in (one, other) for at in range(44, len(data) - 16)]
    assert len(set(pieces)) == len(pieces)


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_any_part_is_the_same_part(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], start: int, length: int
) -> None:
    path = written(tmp_path_factory.getbasetemp(), *pieces)
    whole = b"h" * HEAD + b"".join(pieces)
    with SealedFile(path, KEY) as file:
        assert file.size == len(whole)
        assert file.read(start, length) == whole[start : start + length]
        assert file.read(0, 3) == whole[:3]


def test_what_is_appended_at_once_may_be_long(tmp_path: Path) -> None:
    data = bytes(range(256)) * (MOST_CHUNK // 128)
    path = written(tmp_path, data)
    with SealedFile(path, KEY) as file:
        assert file.read(HEAD, file.size) == data


@pytest.mark.parametrize("key", [bytes(32), KEY[:31] + b"x"])
def test_another_key_is_refused_before_anything_is_read(tmp_path: Path, key: bytes) -> None:
    path = written(tmp_path, b"secret")
    with pytest.raises(OurError, match="another key"):
        SealedFile(path, key)


@pytest.mark.parametrize("key", [b"", b"short", bytes(33)])
def test_a_key_must_be_32_bytes(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(OurError, match="32 bytes"):
        SealedWriter(tmp_path / "x", key, HEAD)
    assert not (tmp_path / "x").exists()


def test_what_is_no_sealed_file_is_not_read(tmp_path: Path) -> None:
    for data in (b"", b"RIFF", bytes(200)):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(OurError, match="not a sealed file"):
            SealedFile(tmp_path / "x", KEY)
    with pytest.raises(FileNotFoundError):
        SealedFile(tmp_path / "nothing", KEY)
    with pytest.raises(FileExistsError):
        SealedWriter(tmp_path / "x", KEY, HEAD)


def test_every_byte_that_is_changed_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, b"one", b"two")
    whole = path.read_bytes()
    good = b"h" * HEAD + b"onetwo"
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        path.write_bytes(changed)
        try:
            with SealedFile(path, KEY) as file:
                read, cut = file.read(0, 1000), file.cut
        except OurError:
            continue
        assert cut, f"byte {at}: a length that leads past the end looks like a crash, and is said"
        assert good.startswith(read)


def test_cut_anywhere_it_is_read_up_to_the_last_whole_chunk_and_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, b"one", b"two")
    whole = path.read_bytes()
    for size in range(CHUNKS_AT, len(whole)):
        path.write_bytes(whole[:size])
        with SealedFile(path, KEY) as file:
            assert file.cut
            assert file.read(0, 1000) in [b"h" * HEAD + told for told in (b"", b"one", b"onetwo")]
    with SealedFile(written(tmp_path, b"one", end=False), KEY) as file:
        assert file.cut
        assert file.read(HEAD, 10) == b"one"


@pytest.mark.parametrize("place", [0, 1])
def test_killed_while_its_head_is_written_it_is_read_by_the_head_before(tmp_path: Path, place: int) -> None:
    """A head of more than a page of memory may be written in part; whoever reads meanwhile may see part of it."""
    path = tmp_path / "x"
    writer = SealedWriter(path, KEY, HEAD)
    heads = [b"%d" % number * HEAD for number in range(4 + place)]
    for head in heads:
        writer.head(head)
        writer.append(b"said")
    writer.abandon()
    whole = path.read_bytes()
    last = 44 + ((len(heads) - 1) % 2) * PLACE
    for torn in range(1, PLACE + 1):
        path.write_bytes(whole[:last] + bytes(torn) + whole[last + torn :])
        with SealedFile(path, KEY) as file:
            assert file.cut
            assert file.read(0, HEAD) == heads[-2]
            assert file.read(HEAD, 100) == b"said" * len(heads)
    path.write_bytes(whole[:44] + bytes(1) + whole[45 : 44 + PLACE] + bytes(1) + whole[45 + PLACE :])
    with pytest.raises(OurError, match="changed"):
        SealedFile(path, KEY)


def test_killed_as_it_began_it_is_empty(tmp_path: Path) -> None:
    SealedWriter(tmp_path / "x", KEY, HEAD).abandon()
    with SealedFile(tmp_path / "x", KEY) as file:
        assert file.cut
        assert file.size == 0


def test_chunks_keep_their_order_and_their_file(tmp_path: Path) -> None:
    path, other = written(tmp_path, b"one", b"two"), written(tmp_path, b"one", b"two")
    data, others = path.read_bytes(), other.read_bytes()
    at, size = CHUNKS_AT, 4 + 3 + 16
    first, second = data[at : at + size], data[at + size : at + 2 * size]
    for chunks in (second + first, first + first, second, others[at : at + size] + second):
        path.write_bytes(data[:at] + chunks + data[at + 2 * size :])
        with pytest.raises(OurError, match="changed"), SealedFile(path, KEY) as file:
            file.read(0, 1000)
    path.write_bytes(others[:44] + data[44:])
    with pytest.raises(OurError, match="changed"):
        SealedFile(path, KEY)
