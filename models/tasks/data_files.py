"""Files that hold data or messages: each function writes one, different for each random state."""

import csv
import difflib
import io
import json
import plistlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from email.message import EmailMessage

from numpy.random import Generator

from planish.models.tasks.random_text import between, choose, number, sentence, words

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


def _word(random: Generator) -> str:
    return words(random, 1, 1)[0]


def _value(random: Generator, depth: int) -> Json:
    """A scalar, or a list or mapping of fewer levels than `depth`."""
    kind = between(random, 0, 6 if depth else 4)
    if kind == 5:
        return [_value(random, depth - 1) for _ in range(between(random, 1, 4))]
    if kind == 6:
        return _mapping(random, depth - 1)
    return (_word(random), sentence(random), between(random, -999, 9999), float(number(random, 3)) / 8, True)[kind]


def _mapping(random: Generator, depth: int) -> dict[str, Json]:
    return {name: _value(random, depth) for name in words(random, 3, 8)}


def _record(random: Generator) -> list[str]:
    clock = f"20{number(random, 2)}-0{between(random, 1, 9)}-1{number(random, 1)}"
    return [number(random, 4), _word(random).title(), clock, f"{between(random, 1, 99)}.{number(random, 2)}"]


def _table(random: Generator, delimiter: str) -> bytes:
    target = io.StringIO()
    writer = csv.writer(target, delimiter=delimiter, lineterminator=choose(random, ("\n", "\r\n")))
    extra = between(random, 0, 3)
    writer.writerow(["id", *words(random, 3 + extra, 3 + extra)])
    for _ in range(between(random, 8, 60)):
        writer.writerow([*_record(random), *(sentence(random) if column else _word(random) for column in range(extra))])
    return target.getvalue().encode()


def comma_separated(random: Generator) -> bytes:
    return _table(random, ",")


def tab_separated(random: Generator) -> bytes:
    return _table(random, "\t")


def json_object(random: Generator) -> bytes:
    return json.dumps(_mapping(random, 3), indent=choose(random, (None, 2, 4))).encode()


def json_lines(random: Generator) -> bytes:
    names = ["id", "name", "date", words(random, 1, 1)[0]]
    rows = [dict(zip(names, _record(random), strict=True)) for _ in range(between(random, 4, 30))]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def yaml(random: Generator) -> bytes:
    lines = ["---"] if between(random, 0, 1) else [f"# {sentence(random)}"]
    for name in dict.fromkeys(words(random, 3, 8)):
        kind = between(random, 0, 3)
        if kind == 0:
            lines.append(f"{name}: {json.dumps(_value(random, 0))}")
        elif kind == 1:
            lines += [f"{name}:", *(f"  - {word}" for word in words(random, 2, 5))]
        elif kind == 2:
            lines += [f"{name}:", *(f"  {word}: {number(random, 3)}" for word in dict.fromkeys(words(random, 2, 5)))]
        else:
            lines += [f"{name}: |", f"  {sentence(random)}", f"  {sentence(random)}"]
    return "\n".join(lines).encode()


def _sections(random: Generator, line: Callable[[str], str]) -> bytes:
    lines: list[str] = [f"# {sentence(random)}", ""] if between(random, 0, 1) else []
    for name in dict.fromkeys(words(random, 3, 6)):
        lines += [f"[{name}]", *(line(word) for word in dict.fromkeys(words(random, 2, 6))), ""]
    return "\n".join(lines).encode()


def toml(random: Generator) -> bytes:
    def line(name: str) -> str:
        value = choose(
            random, ("true", str(between(random, 0, 999)), f'"{sentence(random)}"', json.dumps(words(random, 2, 4)))
        )
        return f"{name} = {value}"

    return _sections(random, line)


def ini(random: Generator) -> bytes:
    sign = choose(random, ("=", " = "))
    return _sections(random, lambda name: f"{name}{sign}{choose(random, (_word(random), number(random, 3), 'yes'))}")


def xml(random: Generator) -> bytes:
    root = ET.Element(_word(random), {"version": f"{between(random, 1, 9)}.0"})
    for _ in range(between(random, 3, 12)):
        item = ET.SubElement(root, _word(random), {_word(random): number(random, 3)})
        for name in words(random, 1, 4):
            ET.SubElement(item, name).text = sentence(random)
    if between(random, 0, 1):
        ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def svg(random: Generator) -> bytes:
    width, height = between(random, 16, 800), between(random, 16, 800)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    ]
    for _ in range(between(random, 3, 20)):
        x, y, size = (between(random, 0, width) for _ in range(3))
        colour = f"#{number(random, 6)}"
        shapes = (
            f'  <circle cx="{x}" cy="{y}" r="{size}" fill="{colour}"/>',
            f'  <rect x="{x}" y="{y}" width="{size}" height="{size}" stroke="{colour}"/>',
            f'  <path d="M{x} {y} L{size} {x} C{y},{x} {x},{size} {size},{y} Z" fill="none" stroke="{colour}"/>',
            f'  <text x="{x}" y="{y}" font-size="{size}">{_word(random)}</text>',
        )
        lines.append(choose(random, shapes))
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n' if between(random, 0, 1) else ""
    return (declaration + "\n".join([*lines, "</svg>\n"])).encode()


def property_list(random: Generator) -> bytes:
    return plistlib.dumps(_plist(random))


def binary_property_list(random: Generator) -> bytes:
    return plistlib.dumps(_plist(random), fmt=plistlib.FMT_BINARY)


def _plist(random: Generator) -> dict[str, object]:
    return {"CFBundleName": _word(random), **_mapping(random, 2)}


def unified_diff(random: Generator) -> bytes:
    before = [sentence(random) for _ in range(between(random, 10, 40))]
    after = list(before)
    for _ in range(between(random, 2, 6)):
        after[between(random, 0, len(after) - 1)] = sentence(random)
    name = _word(random)
    lines = difflib.unified_diff(before, after, f"a/{name}.txt", f"b/{name}.txt", lineterm="")
    return "\n".join([*lines, ""]).encode()


def mail(random: Generator) -> bytes:
    message = EmailMessage()
    sender, receiver, server = words(random, 3, 3)
    message["Received"] = f"from mail.{server}.org by mx.{receiver}.com with ESMTP id {number(random, 8)}"
    message["From"] = f"{sender.title()} <{sender}@{server}.org>"
    message["To"] = f"{receiver}@{receiver}.com"
    message["Subject"] = sentence(random)
    message["Date"] = f"Mon, {between(random, 10, 28)} Jan 20{number(random, 2)} 10:{between(random, 10, 59)}:00 +0000"
    message["Message-ID"] = f"<{number(random, 12)}@{server}.org>"
    message.set_content("\n".join(sentence(random) for _ in range(between(random, 2, 12))))
    return message.as_bytes()


def calendar(random: Generator) -> bytes:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", f"PRODID:-//{_word(random)}//{_word(random)}//EN"]
    for _ in range(between(random, 1, 6)):
        day = f"20{number(random, 2)}0{between(random, 1, 9)}1{number(random, 1)}"
        lines += ["BEGIN:VEVENT", f"UID:{number(random, 10)}@{_word(random)}.org", f"DTSTART:{day}T090000Z"]
        lines += [f"DTEND:{day}T100000Z", f"SUMMARY:{sentence(random)}", "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""]).encode()


def subtitles(random: Generator) -> bytes:
    lines: list[str] = []
    for place in range(between(random, 4, 30)):
        begin, end = (f"00:{place:02}:{second:02},{number(random, 3)}" for second in (10, 10 + between(random, 1, 40)))
        lines += [str(place + 1), f"{begin} --> {end}", sentence(random), ""]
    return "\n".join(lines).encode()


def prose(random: Generator) -> bytes:
    paragraphs = [
        " ".join(sentence(random) for _ in range(between(random, 2, 8))) for _ in range(between(random, 1, 6))
    ]
    return "\n\n".join([*paragraphs, ""]).encode()


DATA: Mapping[str, Callable[[Generator], bytes]] = {
    "csv": comma_separated,
    "tsv": tab_separated,
    "json": json_object,
    "jsonl": json_lines,
    "yaml": yaml,
    "toml": toml,
    "ini": ini,
    "xml": xml,
    "svg": svg,
    "appleplist": property_list,
    "applebplist": binary_property_list,
    "diff": unified_diff,
    "eml": mail,
    "ics": calendar,
    "srt": subtitles,
    "txt": prose,
}
"""By content type, as magika names it."""
