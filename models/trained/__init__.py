"""Trained nets that ship with planish, so that accuracy can be had with no network."""

from collections.abc import Mapping
from pathlib import Path

TRAINED: Mapping[str, Path] = {"digits-cnn": Path(__file__).with_name("digits.onnx")}
