"""What goes with zoo models that are made of weights: how images are prepared, files beside the model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from planish.models.fetch import sha256_of
from planish.models.lower import framework
from planish.models.zoo import ZOO, ZooError, fetch, fetch_asset
from planish.models.zoo.images import imagenet


def test_an_image_becomes_its_middle_square() -> None:
    wide = Image.new("RGB", (400, 200), (255, 127, 0))
    found = imagenet(wide)
    assert (found.shape, found.dtype) == ((1, 3, 224, 224), np.float32)
    np.testing.assert_array_equal(found[0, :, 100, 100], [1, 0, -127 / 128])
    halves = Image.new("L", (200, 400))
    halves.paste(255, (0, 0, 200, 200))
    assert imagenet(halves)[0, 0].mean() == pytest.approx(0.5 / 128, abs=0.01)


@pytest.mark.parametrize("name", [name for name, model in ZOO.items() if model.is_lowered])
def test_a_model_in_the_cache_is_known_by_its_record(name: str, tmp_path: Path) -> None:
    """It needs no network and no PyTorch then; one that is not of these weights is refused."""
    model = ZOO[name]
    path = model.path_in(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"a model")
    for asset in model.assets:
        path.with_name(asset.name).write_bytes(b"")
    record = {"weights": model.sha256, "sha256": sha256_of(path)}
    model.record_in(tmp_path).write_text(json.dumps(record), encoding="utf-8")
    assert fetch(name, cache=tmp_path) == path
    for text in (json.dumps({**record, "weights": "others"}), json.dumps({**record, "sha256": "0"}), "[]", ""):
        model.record_in(tmp_path).write_text(text, encoding="utf-8")
        with pytest.raises(ZooError, match=f"is not zoo model '{name}': its sha256 is .* Remove it"):
            fetch(name, cache=tmp_path)


@pytest.mark.parametrize("name", [name for name, model in ZOO.items() if model.is_lowered])
def test_without_pytorch_no_weights_are_downloaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreached(*_: object) -> Path:
        raise AssertionError

    absent = replace(framework.FRAMEWORKS["pytorch"], packages=("no_such_framework",))
    monkeypatch.setattr(framework, "FRAMEWORKS", {"pytorch": absent})
    with pytest.raises(ZooError, match=rf"'{name}' is made of weights of PyTorch, .*pip install 'planish\[torch\]'"):
        fetch(name, cache=tmp_path, download=unreached)


def test_an_asset_that_is_not_there() -> None:
    with pytest.raises(ZooError, match=r"'all-MiniLM-L6-v2' has no file 'vocab\.txt'; it has tokenizer\.json"):
        fetch_asset("all-MiniLM-L6-v2", "vocab.txt")
    with pytest.raises(ZooError, match="'magika' has no file 'x'; it has none"):
        fetch_asset("magika", "x")
