"""File types: which of magika's 214 content types a file has, in files of sixty that are built here."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from planish.models.tasks.binary_files import BINARIES
from planish.models.tasks.data_files import DATA
from planish.models.tasks.source_files import languages, source
from planish.runtime.session import Feed
from planish.runtime.task import Metric, Run, Sample, Samples, Split, Task

FORMATS: Mapping[str, Callable[[Generator], bytes]] = {
    **BINARIES,
    **DATA,
    **{language: partial(source, language) for language in languages()},
}

_SEED = 20_261_130
_CALIBRATION_STEP = 5
"""Every fifth format is for calibration."""
_FILES = 10
"""Of each format."""
_BLOCK, _TAKEN, _PADDING = 4096, 1024, 256

_CLASSES = """
3gp ace ai aidl apk applebplist appleplist asm asp autohotkey autoit awk batch bazel bib bmp bzip c cab cat chm
clojure cmake cobol coff coffeescript cpp crt crx cs csproj css csv dart deb dex dicom diff dm dmg doc dockerfile docx
dsstore dwg dxf elf elixir emf eml epub erb erlang flac flv fortran gemfile gemspec gif gitattributes gitmodules go
gradle groovy gzip h5 handlebars haskell hcl hlp htaccess html icns ico ics ignorefile ini internetshortcut ipynb iso
jar java javabytecode javascript jinja jp2 jpeg json jsonl julia kotlin latex lha lisp lnk lua m3u m4 macho makefile
markdown matlab mht midi mkv mp3 mp4 mscompress msi mum npy npz nupkg objectivec ocaml odp ods odt ogg one onnx otf
outlook parquet pascal pcap pdb pdf pebin pem perl php pickle png po postscript powershell ppt pptx prolog proteindb
proto psd python pythonbytecode pytorch qt r randombytes randomtxt rar rdf rpm rst rtf ruby rust scala scss sevenzip
sgml shell smali snap solidity sql sqlite squashfs srt stlbinary stltext sum svg swf swift tar tcl textproto tga
thumbsdb tiff toml torrent tsv ttf twig txt typescript vba vcxproj verilog vhdl vtt vue wasm wav webm webp winregistry
wmf woff woff2 xar xls xlsb xlsx xml xpi xz yaml yara zig zip zlibstream
"""
"""In the order of the scores: target_labels_space of models/standard_v3_3/config.min.json in the wheel of magika 1.0.3
(Apache-2.0)."""
_LABELS = _CLASSES.split()
_OUTPUT_LABELS = {"randombytes": "unknown", "randomtxt": "txt"}
"""What magika calls these classes when it answers: overwrite_map of the same file."""


class FileTypes(Task[str, str]):
    """A sample's group is its format, and no format is in both splits."""

    name = "file-types"
    model = "zoo:magika"
    metrics = (Metric("accuracy"),)

    def samples(self, split: Split) -> Sequence[Sample[str]]:
        kept = set(tuple(FORMATS)[::_CALIBRATION_STEP])
        labels = [label for label in FORMATS if (label in kept) == (split == "calibration")]
        return Samples(_FILES * len(labels), lambda index: _sample(labels[index // _FILES], index % _FILES))

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> str:
        """The likeliest class, however likely: what magika calls its mode best-guess."""
        scores = run(feeds).tensor("target_label", (1, len(_LABELS)))
        label = _LABELS[int(scores.argmax())]
        return _OUTPUT_LABELS.get(label, label)

    def grade(self, predictions: Sequence[str], labels: Sequence[str]) -> list[bool]:
        return [prediction == label for prediction, label in zip(predictions, labels, strict=True)]


def to_input(content: bytes) -> NDArray[np.int32]:
    """[1, 2048]: the first and the last 1,024 bytes without whitespace before and behind, and 256 where there are less.

    Whitespace is looked for in 4,096 bytes from each end, which are all of a shorter file.
    """
    first, last = content[:_BLOCK].lstrip()[:_TAKEN], content[-_BLOCK:].rstrip()[-_TAKEN:]
    x = np.full((1, 2 * _TAKEN), _PADDING, np.int32)
    x[0, : len(first)] = np.frombuffer(first, np.uint8)
    x[0, 2 * _TAKEN - len(last) :] = np.frombuffer(last, np.uint8)
    return x


def _sample(label: str, place: int) -> Sample[str]:
    content = FORMATS[label](np.random.default_rng((_SEED, place, *label.encode())))
    return Sample({"bytes": to_input(content)}, label, label)
