"""File types: what goes into the model, and that the files are what they are said to be."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import plistlib
import sqlite3
import struct
import sys
import tarfile
import tomllib
import wave
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Callable, Mapping
from configparser import RawConfigParser
from email import message_from_bytes

import numpy as np
import pytest
from PIL import Image

from planish.models.tasks import load
from planish.models.tasks.binary_files import BINARIES
from planish.models.tasks.data_files import DATA
from planish.models.tasks.file_types import FORMATS, FileTypes, to_input
from planish.models.tasks.source_files import languages
from planish.runtime.errors import TaskError


def files(label: str) -> list[bytes]:
    return [FORMATS[label](np.random.default_rng(place)) for place in range(12)]


def test_a_short_file_goes_in_twice_with_padding_between() -> None:
    x = to_input(b" \nhead tail\t\n")
    assert (x.shape, x.dtype) == ((1, 2048), np.int32)
    assert bytes(x[0, :11].tolist()) == b"head tail\t\n"
    assert bytes(x[0, -11:].tolist()) == b" \nhead tail"
    assert set(x[0, 11:-11].tolist()) == {256}


def test_of_a_long_file_both_ends_go_in() -> None:
    content = bytes(range(1, 101)) * 100
    x = to_input(b" " * 3000 + content + b"\n" * 3500)
    assert x[0, :1024].tolist() == list(content[:1024])
    # Whitespace is looked for in 4,096 bytes: 596 of them are left of the content at the end.
    assert x[0, -596:].tolist() == list(content[-596:])
    assert set(x[0, 1024:-596].tolist()) == {256}
    assert set(to_input(b" " * 5000)[0].tolist()) == {256}


def test_there_are_at_least_twenty_formats_and_no_file_twice() -> None:
    assert len(FORMATS) == len(BINARIES) + len(DATA) + len(languages()) >= 20
    for label in FORMATS:
        assert len(set(files(label))) == 12, label


def test_each_format_is_in_one_split_alone() -> None:
    calibration, test = ({sample.label for sample in FileTypes().samples(split)} for split in ("calibration", "test"))
    assert calibration | test == set(FORMATS)
    assert not calibration & test
    assert len(test) >= 20


def test_a_limit_of_a_sample_for_each_format_has_each_of_them() -> None:
    samples = FileTypes().samples("test")
    assert len({samples[place].label for place in range(0, len(samples), len(samples) // 48)}) == 48


def picture(content: bytes) -> object:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image.format


def archive(content: bytes) -> object:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() is None
        return file.namelist()[0]


def database(content: bytes) -> object:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    tables: list[tuple[str]] = connection.execute("SELECT name FROM sqlite_master").fetchall()
    count = connection.execute(f"SELECT COUNT(*) FROM '{tables[0][0]}'").fetchone()
    connection.close()
    return count[0] >= 3


def sound(content: bytes) -> object:
    with wave.open(io.BytesIO(content)) as file:
        return len(file.readframes(file.getnframes())) > 1000


def tape(content: bytes) -> object:
    with tarfile.open(fileobj=io.BytesIO(content)) as file:
        return all(member.size == len((file.extractfile(member) or io.BytesIO()).read()) for member in file)


def portable_document(content: bytes) -> object:
    """The table at the end says where each object begins."""
    start = int(content.rsplit(b"startxref\n", 1)[1].split()[0])
    lines = content[start:].split(b"\n")
    assert lines[0] == b"xref"
    count = int(lines[1].split()[1])
    for number, line in enumerate(lines[3 : 2 + count], 1):
        assert content[int(line[:10]) :].startswith(f"{number} 0 obj\n".encode())
    return content.endswith(b"%%EOF\n")


def midi(content: bytes) -> object:
    (length,) = struct.unpack(">I", content[18:22])
    return content[:4] + content[14:18] == b"MThdMTrk" and length == len(content) - 22


def web_assembly(content: bytes) -> object:
    """Sections of known kinds, in ascending order, that end where the file does."""
    place, kinds = 8, list[int]()
    while place < len(content):
        kinds.append(content[place])
        length = shift = 0
        while True:
            place += 1
            length |= (content[place] & 0x7F) << shift
            shift += 7
            if content[place] < 0x80:
                break
        place += 1 + length
    return (content[:8], kinds, place) == (b"\0asm\1\0\0\0", [1, 3, 7, 10], len(content))


def ini(content: bytes) -> object:
    parser = RawConfigParser(strict=False)
    parser.read_string(content.decode())
    return bool(parser.sections())


def compiled(content: bytes) -> object:
    return compile(content, "file.py", "exec").co_filename


READERS: Mapping[str, tuple[Callable[[bytes], object], object]] = {
    **{name: (picture, name.upper()) for name in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ico")},
    "wav": (sound, True),
    "midi": (midi, True),
    "docx": (archive, "[Content_Types].xml"),
    "epub": (archive, "mimetype"),
    "jar": (archive, "META-INF/"),
    "zip": (lambda content: bool(archive(content)), True),
    "npz": (lambda content: bool(np.load(io.BytesIO(content)).files), True),
    "npy": (lambda content: np.load(io.BytesIO(content)).ndim, 2),
    "gzip": (lambda content: bool(gzip.decompress(content)), True),
    "bzip": (lambda content: bool(bz2.decompress(content)), True),
    "xz": (lambda content: bool(lzma.decompress(content)), True),
    "zlibstream": (lambda content: bool(zlib.decompress(content)), True),
    "tar": (tape, True),
    "sqlite": (database, True),
    "pickle": (lambda content: isinstance(pickle.loads(content), dict), True),
    "pdf": (portable_document, True),
    "wasm": (web_assembly, True),
    "json": (lambda content: isinstance(json.loads(content), dict), True),
    "jsonl": (lambda content: all(isinstance(json.loads(line), dict) for line in content.splitlines()), True),
    "xml": (lambda content: len(ET.fromstring(content)) > 0, True),
    "svg": (lambda content: ET.fromstring(content).tag, "{http://www.w3.org/2000/svg}svg"),
    "appleplist": (lambda content: "CFBundleName" in plistlib.loads(content), True),
    "applebplist": (lambda content: "CFBundleName" in plistlib.loads(content), True),
    "toml": (lambda content: len(tomllib.loads(content.decode())) >= 2, True),
    "ini": (ini, True),
    "eml": (lambda content: message_from_bytes(content)["Subject"] is not None, True),
}
"""What reads a format, and what it must say of each file."""


@pytest.mark.parametrize("label", READERS)
def test_what_reads_a_format_reads_its_files(label: str) -> None:
    reader, expected = READERS[label]
    assert [reader(content) for content in files(label)] == [expected] * 12


def test_no_mark_is_left_in_a_source() -> None:
    for language in languages():
        assert not any("§" in content.decode() for content in files(language)), language
    for content in files("python"):
        assert compiled(content) == "file.py"


def test_tables_have_as_many_fields_in_each_row() -> None:
    for label, mark in (("csv", b","), ("tsv", b"\t")):
        for content in files(label):
            assert len({row.count(mark) for row in content.splitlines()}) == 1


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("file_types", "binary_files"):
        monkeypatch.delitem(sys.modules, f"planish.models.tasks.{name}")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(TaskError, match=r"task 'file-types' .*PIL.*pip install 'planish\[tasks\]'"):
        load("file-types")
