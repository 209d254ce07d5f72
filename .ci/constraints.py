"""Prints uv.lock as pip constraints, so that an install without uv takes the same versions as one with it."""

import sys
import tomllib
from pathlib import Path

_BUILDS = {"tensorflow": ("tensorflow-cpu",)}  # other builds of the same releases

lock = tomllib.loads(Path("uv.lock").read_text(encoding="utf-8"))
for package in lock["package"]:
    if "registry" in package["source"]:
        markers = " or ".join(package.get("resolution-markers", ()))
        for name in (package["name"], *_BUILDS.get(package["name"], ())):
            sys.stdout.write(f"{name}=={package['version']}{' ; ' if markers else ''}{markers}\n")
