"""Generates hejin/v1/*_pb2*.py from the .proto files; --check fails where they differ."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("hejin") / "v1"


def generate(out: Path) -> None:
    """Write the generated modules of every .proto below ROOT into `out`."""
    sources = sorted(str(path) for path in (ROOT / PACKAGE).glob("*.proto"))
    includes = str(files("grpc_tools") / "_proto")
    flags = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "pyi")]
    if protoc.main(["protoc", f"-I{ROOT}", f"-I{includes}", *flags, *sources]) != 0:
        raise SystemExit("protoc refused the .proto files")


def main() -> int:
    """Generate, or with --check compare; exit code 1 on drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {path.name: path for path in (Path(folder) / PACKAGE).iterdir()}
        kept = {path.name: path for path in (ROOT / PACKAGE).glob("*_pb2*")}
        changed = sorted(
            name
            for name in fresh.keys() | kept.keys()
            if name not in fresh
            or name not in kept
            or fresh[name].read_bytes() != kept[name].read_bytes()
        )
        if check:
            if changed:
                sys.stderr.write(f"generated code differs: {', '.join(changed)}; run make proto\n")
            return 1 if changed else 0
        for name in changed:
            if name in fresh:
                shutil.copyfile(fresh[name], ROOT / PACKAGE / name)
            else:
                kept[name].unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
