"""Pictures, sounds, archives, documents and other binary files: each function writes one, different for each state."""

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import struct
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial

import numpy as np
from numpy.random import Generator

from planish.models.tasks.data_files import comma_separated, json_object, prose
from planish.models.tasks.random_text import between, choose, number, sentence, words
from planish.models.tasks.source_files import languages, source

try:
    from PIL import Image, ImageDraw
except ImportError as error:
    raise ImportError(f"pictures are written with Pillow ({error}): pip install 'planish[tasks]'") from error

_MADE = (2024, 5, 17, 12, 30, 0)
_MADE_SECONDS = 1_715_949_000


def _content(random: Generator) -> bytes:
    return choose(random, (prose, comma_separated, json_object, _some_source))(random)


def _some_source(random: Generator) -> bytes:
    return source(choose(random, languages()), random)


def _noise(random: Generator) -> bytes:
    return random.bytes(between(random, 500, 4000))


def _picture(random: Generator, kind: str) -> bytes:
    """Shapes on a slope of colour, with noise in every other one."""
    width, height = between(random, 16, 160), between(random, 16, 160)
    corners = random.integers(0, 256, (2, 2, 3))
    across, down = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
    top, bottom = (left + (right - left) * across for left, right in corners)
    noise = random.normal(0, choose(random, (0.0, 8.0)), (height, width, 3))
    pixels = np.clip(top + (bottom - top) * down + noise, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for _ in range(between(random, 0, 5)):
        x, y, size = between(random, 0, width), between(random, 0, height), between(random, 2, 60)
        shape = choose(random, (draw.ellipse, draw.rectangle))
        shape((x, y, x + size, y + size), fill=(between(random, 0, 255), between(random, 0, 255), 0))
    mode = choose(random, ("RGB", "L")) if kind not in ("GIF", "ICO") else "RGB"
    target = io.BytesIO()
    image.convert(mode).save(target, kind)
    return target.getvalue()


def sound(random: Generator) -> bytes:
    target = io.BytesIO()
    rate, channels = choose(random, (8000, 16_000, 44_100)), between(random, 1, 2)
    times = np.arange(between(random, 1000, 8000)) / rate
    wave_form = np.sin(2 * np.pi * between(random, 100, 2000) * times) + random.normal(0, 0.05, len(times))
    samples = (wave_form * between(random, 1000, 15_000)).astype("<i2")
    with wave.open(target, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes(np.repeat(samples, channels).tobytes())
    return target.getvalue()


def midi(random: Generator) -> bytes:
    """Standard MIDI File, format 0: one track of notes of a quarter each (MIDI Manufacturers Association, RP-001)."""
    events = [b"\x00\xff\x51\x03" + struct.pack(">I", between(random, 300_000, 900_000))[1:]]
    events.append(b"\x00" + bytes([0xC0, between(random, 0, 127)]))
    for _ in range(between(random, 20, 200)):
        note, loudness = between(random, 30, 100), between(random, 40, 127)
        events.append(b"\x00" + bytes([0x90, note, loudness]) + b"\x60" + bytes([0x80, note, 0]))
    track = b"".join([*events, b"\x00\xff\x2f\x00"])
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track


def _archive(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for place, (name, content) in enumerate(members):
            stored = name == "mimetype" and place == 0
            info = zipfile.ZipInfo(name, _MADE)
            file.writestr(info, content, zipfile.ZIP_STORED if stored else method)
    return target.getvalue()


def zipped(random: Generator) -> bytes:
    names = dict.fromkeys(words(random, 1, 6))
    method = choose(random, (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))
    return _archive([(f"{name}.{choose(random, ('txt', 'dat'))}", _content(random)) for name in names], method)


def jar(random: Generator) -> bytes:
    name = words(random, 1, 1)[0]
    manifest = (
        f"Manifest-Version: 1.0\r\nCreated-By: 17.0.{number(random, 1)} (Debian)\r\nMain-Class: {name}.Main\r\n\r\n"
    )
    parts = [f"com/{name}/{part.title()}.class" for part in dict.fromkeys(words(random, 2, 6))]
    classes = [(part, b"\xca\xfe\xba\xbe\x00\x00\x00\x3d" + _noise(random)) for part in parts]
    return _archive([("META-INF/", b""), ("META-INF/MANIFEST.MF", manifest.encode()), *classes])


_OFFICE = "http://schemas.openxmlformats.org"
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def docx(random: Generator) -> bytes:
    """Office Open XML (ECMA-376): a document of paragraphs."""
    part = "application/vnd.openxmlformats-"
    types = (
        f'{_XML}<Types xmlns="{_OFFICE}/package/2006/content-types">'
        f'<Default Extension="rels" ContentType="{part}package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" '
        f'ContentType="{part}officedocument.wordprocessingml.document.main+xml"/></Types>'
    )
    relations = (
        f'{_XML}<Relationships xmlns="{_OFFICE}/package/2006/relationships"><Relationship Id="rId1" '
        f'Type="{_OFFICE}/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
        "</Relationships>"
    )
    texts = (sentence(random) for _ in range(between(random, 3, 30)))
    paragraphs = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in texts)
    document = (
        f'{_XML}<w:document xmlns:w="{_OFFICE}/wordprocessingml/2006/main"><w:body>{paragraphs}</w:body></w:document>'
    )
    names = ("[Content_Types].xml", "_rels/.rels", "word/document.xml")
    return _archive([(name, text.encode()) for name, text in zip(names, (types, relations, document), strict=True)])


def epub(random: Generator) -> bytes:
    """EPUB 2: a book of chapters."""
    chapters = words(random, 2, 5)
    items = "".join(
        f'<item id="c{i}" href="{i}.xhtml" media-type="application/xhtml+xml"/>' for i in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="2.0" unique-identifier="id"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:title>{sentence(random)}</dc:title><dc:language>en</dc:language><dc:identifier id="id">'
        f"{number(random, 13)}</dc:identifier></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    members = [("mimetype", b"application/epub+zip"), ("META-INF/container.xml", container.encode())]
    members.append(("OEBPS/content.opf", package.encode()))
    for place, title in enumerate(chapters):
        page = f"<html><head><title>{title}</title></head><body><p>{prose(random).decode()}</p></body></html>"
        members.append((f"OEBPS/{place}.xhtml", page.encode()))
    return _archive(members)


def gzipped(random: Generator) -> bytes:
    return gzip.compress(_content(random), mtime=_MADE_SECONDS)


def bzipped(random: Generator) -> bytes:
    return bz2.compress(_content(random))


def xzipped(random: Generator) -> bytes:
    return lzma.compress(_content(random))


def zlib_stream(random: Generator) -> bytes:
    return zlib.compress(_content(random), choose(random, (1, 6, 9)))


def tape(random: Generator) -> bytes:
    target = io.BytesIO()
    with tarfile.open(
        fileobj=target, mode="w", format=choose(random, (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT))
    ) as file:
        for name in words(random, 1, 5):
            content = _content(random)
            info = tarfile.TarInfo(f"{words(random, 1, 1)[0]}/{name}.txt")
            info.size, info.mtime, info.uname, info.gname = len(content), _MADE_SECONDS, "user", "user"
            file.addfile(info, io.BytesIO(content))
    return target.getvalue()


def database(random: Generator) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        for table in dict.fromkeys(words(random, 1, 3)):
            connection.execute(f"CREATE TABLE '{table}' (id INTEGER PRIMARY KEY, name TEXT, size REAL)")
            rows = [(sentence(random), between(random, 0, 999) / 8) for _ in range(between(random, 3, 60))]
            connection.executemany(f"INSERT INTO '{table}' (name, size) VALUES (?, ?)", rows)
        connection.commit()
        return connection.serialize()


def pickled(random: Generator) -> bytes:
    rows = {
        word: [between(random, 0, 99_999), sentence(random), between(random, 0, 9) / 8] for word in words(random, 3, 40)
    }
    return pickle.dumps(rows, protocol=between(random, 2, 4))


def array(random: Generator) -> bytes:
    target = io.BytesIO()
    np.save(target, _some_array(random))
    return target.getvalue()


def arrays(random: Generator) -> bytes:
    members: list[tuple[str, bytes]] = [(f"{name}.npy", array(random)) for name in dict.fromkeys(words(random, 1, 5))]
    return _archive(members, choose(random, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _some_array(random: Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    numbers = random.normal(0, 100, (between(random, 2, 40), between(random, 1, 20)))
    return numbers.astype(choose(random, ("<f4", "<f8", "<i4", "|u1", "<i8")))


def pdf(random: Generator) -> bytes:
    """PDF 1.4 (ISO 32000-1): pages of text in Helvetica, compressed or not, and the table of where each object is."""
    pages = between(random, 1, 4)
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for page in range(pages):
        resources = "<< /Font << /F1 3 0 R >> >>"
        content = f"/Contents {5 + 2 * page} 0 R"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources {resources} {content} >>".encode()
        )
        objects.append(_page(random))
    body, places = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", list[int]()
    for place, content in enumerate(objects, 1):
        places.append(len(body))
        body += f"{place} 0 obj\n".encode() + content + b"\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}trailer\n"
    end += f"<< /Size {len(places) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return body + end.encode()


def _page(random: Generator) -> bytes:
    lines = "\n".join(f"({sentence(random)}) Tj 0 -14 Td" for _ in range(between(random, 3, 30)))
    content, how = f"BT /F1 11 Tf 50 780 Td\n{lines}\nET".encode(), ""
    if between(random, 0, 1):
        content, how = zlib.compress(content), "/Filter /FlateDecode "
    return f"<< {how}/Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream"


def web_assembly(random: Generator) -> bytes:
    """WebAssembly 1.0: functions of two integers, each a chain of constants and operations, exported by name."""
    names = list(dict.fromkeys(words(random, 2, 12)))
    signature = b"\x60\x02\x7f\x7f\x01\x7f"
    functions: list[bytes] = []
    exports: list[bytes] = []
    for place, name in enumerate(names):
        steps = b"".join(
            b"\x41" + bytes([between(random, 0, 63)]) + bytes([choose(random, (0x6A, 0x6B, 0x6C, 0x71, 0x72))])
            for _ in range(between(random, 1, 30))
        )
        code = b"\x00\x20\x00\x20\x01\x6a" + steps + b"\x0b"
        functions.append(_leb(len(code)) + code)
        exports.append(_leb(len(name)) + name.encode() + b"\x00" + _leb(place))
    count = _leb(len(names))
    sections = (
        (1, b"\x01" + signature),
        (3, count + b"\x00" * len(names)),
        (7, count + b"".join(exports)),
        (10, count + b"".join(functions)),
    )
    return b"\x00asm\x01\x00\x00\x00" + b"".join(bytes([kind]) + _leb(len(data)) + data for kind, data in sections)


def _leb(value: int) -> bytes:
    """Unsigned LEB128."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _leb(rest) if rest else bytes([low])


Bencode = dict[str, "Bencode"] | str | bytes | int


def torrent(random: Generator) -> bytes:
    """A metainfo file of BitTorrent (BEP 3), in bencoding."""
    name, host = words(random, 2, 2)
    pieces = between(random, 5, 80)
    info: dict[str, Bencode] = {
        "length": pieces * 262_144 - between(random, 0, 99_999),
        "name": f"{name}.iso",
        "piece length": 262_144,
        "pieces": random.bytes(20 * pieces),
    }
    return _bencoded({"announce": f"http://{host}.org/announce", "creation date": _MADE_SECONDS, "info": info})


def _bencoded(value: Bencode) -> bytes:
    if isinstance(value, dict):
        return b"d" + b"".join(_bencoded(part) for item in value.items() for part in item) + b"e"
    if isinstance(value, int):
        return f"i{value}e".encode()
    raw = value if isinstance(value, bytes) else value.encode()
    return f"{len(raw)}:".encode() + raw


BINARIES: Mapping[str, Callable[[Generator], bytes]] = {
    **{kind: partial(_picture, kind=kind.upper()) for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ico")},
    "wav": sound,
    "midi": midi,
    "zip": zipped,
    "jar": jar,
    "docx": docx,
    "epub": epub,
    "gzip": gzipped,
    "bzip": bzipped,
    "xz": xzipped,
    "zlibstream": zlib_stream,
    "tar": tape,
    "sqlite": database,
    "pickle": pickled,
    "npy": array,
    "npz": arrays,
    "pdf": pdf,
    "wasm": web_assembly,
    "torrent": torrent,
}
"""By content type, as magika names it."""
