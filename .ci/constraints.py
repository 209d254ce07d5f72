"""Prints uv.lock as pip constraints, so that an install without uv takes the same versions as one with it."""

import sys
import tomllib
from pathlib import Path

lock = tomllib.loads(Path("uv.lock").read_text(encoding="utf-8"))
for package in lock["package"]:
    if "registry" in package["source"]:
        markers = " or ".join(package.get("resolution-markers", ()))
        sys.stdout.write(f"{package['name']}=={package['version']}{' ; ' if markers else ''}{markers}\n")
