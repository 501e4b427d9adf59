"""What stands in a job for a value from elsewhere: ``${NAME}``, ``${file:…}``, ``${env:…}``, ….

The launcher fills a job, and a worker fills secrets by itself (``--secrets worker``); both look
references up here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from vecferry.errors import VecferryError, keep_secret, shorten

_NAME = r"\$\{([A-Za-z_][\w.-]*)(?::-([^}]*))?\}"
_REFERENCE = r"\$\{(file|env|keyring):((?:(?!:-)[^{}])+)(?::-([^{}]*))?\}"

PLACEHOLDER = re.compile(_NAME)
"""``${name}`` or ``${name:-default}``."""
REFERENCE = re.compile(_REFERENCE)
"""``${file:PATH}``, ``${env:NAME}`` or ``${keyring:SERVICE/NAME}``, each with a default or not."""
EITHER = re.compile(f"{_REFERENCE}|{_NAME}")
"""A reference (groups 1 to 3) or a placeholder (groups 4 and 5)."""

MOST_BYTES = 1 << 20
"""A longer file is not a secret."""


class NothingThereError(VecferryError):
    """A reference to what is not there; a default takes its place."""


def look_up(kind: str, name: str) -> str:
    """The text that ``${kind:name}`` stands for; texts of files and keyrings are secrets.

    Raises:
      NothingThereError: the file, variable or entry does not exist.
      VecferryError: it exists, and cannot be read.
    """
    if kind == "env":
        if name not in os.environ:
            raise NothingThereError(f"the environment has no {name}; set it")
        return os.environ[name]
    found = _from_file(name) if kind == "file" else _from_keyring(name)
    keep_secret(found)
    return found


def _from_file(name: str) -> str:
    """The text of a file without its last line break."""
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise VecferryError(f"{path} exceeds {MOST_BYTES >> 20} MiB; name another file")
        return data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        raise NothingThereError(f"the file {path} does not exist; make it") from None
    except UnicodeDecodeError:
        raise VecferryError(f"{path} is not text in UTF-8; name another file") from None
    except (OSError, ValueError) as e:
        raise VecferryError(f"{path} cannot be read: {shorten(e)}") from None


def _from_keyring(name: str) -> str:
    service, slash, user = name.rpartition("/")
    if not slash or not service or not user:
        raise VecferryError("a keyring is asked by service and name; write SERVICE/NAME")
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise VecferryError("keyring is not installed; pip install 'vecferry[keyring]'") from None
    try:
        found = keyring.get_password(service, user)
    except KeyringError as e:
        raise VecferryError(f"the keyring does not answer: {shorten(e)}") from None
    if found is None:
        raise NothingThereError(
            f"the keyring has no {user} of {service}; run: keyring set {service} {user}"
        )
    return found


def at_its_place(match: re.Match[str], folder: str | None) -> str:
    """A reference as written, with the path of a file made absolute; relative to `folder`."""
    kind, name, default = match[1], match[2], match[3]
    if kind == "file":
        name = os.path.abspath(os.path.join(folder or "", os.path.expanduser(name)))
    rest = "" if default is None else f":-{default}"
    return f"${{{kind}:{name}{rest}}}"
