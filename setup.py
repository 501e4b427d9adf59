"""Build entry point, for Beam's ``--setup_file ./setup.py``; metadata is in pyproject.toml."""

from pathlib import Path

from setuptools import setup

PACKAGE = Path(__file__).resolve().parent / "src" / "vecferry"
for part in ("io", "pipelines", "transforms"):
    if not (PACKAGE / part).is_dir():
        raise SystemExit(
            f"src/vecferry/{part} is not a directory: check this tree out with symbolic links "
            "(git config core.symlinks true)"
        )

setup()
