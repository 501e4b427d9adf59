"""What stands for a value from elsewhere: files, the environment, a keyring."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import keyring
import pytest
from keyrings.alt.file import PlaintextKeyring

from vecferry.errors import JobError, redact
from vecferry.pipelines.job.env_file import read_env_files
from vecferry.pipelines.job.placeholders import Values, fill
from vecferry.process import end_run
from vecferry.secrets import Written, names_of, referenced, secret_of

RUN = "references"
KEY = "sk-9f8e7d6c5b4a"


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlaintextKeyring:
    """A keyring in a file, with one entry."""
    ring = PlaintextKeyring()
    monkeypatch.setattr(PlaintextKeyring, "file_path", str(tmp_path / "ring.cfg"))
    monkeypatch.setattr(keyring.core, "_keyring_backend", ring)
    ring.set_password("https://api.example.com/v1", "me", KEY)
    return ring


def filled(text: str, folder: str | None = None) -> tuple[str, list[str]]:
    """A text filled, and the problems."""
    found, problems = fill({"key": text}, Values({}), folder=folder)
    return str(found["key"]), problems


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_gives_its_text_without_the_last_line_break(tmp_path: Path, end: str) -> None:
    """As editors and Kubernetes write secrets; the text is hidden from then on."""
    (tmp_path / "key").write_bytes(f"{KEY}{end}".encode())
    assert filled(f"Bearer ${{file:{tmp_path}/key}}") == (f"Bearer {KEY}", [])
    assert KEY not in redact(f"refused: {KEY}")


def test_a_relative_file_is_beside_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home folder may be written as in a shell."""
    (tmp_path / "key").write_text(KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert filled("${file:key}", str(tmp_path)) == (KEY, [])
    assert filled("${file:~/key}") == (KEY, [])


def test_the_environment_is_asked_for_what_the_command_line_names_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``${env:X}`` never means ``-p X``."""
    monkeypatch.setenv("X_KEY", "of the environment")
    values = Values({"X_KEY": "of the command line"})
    assert fill("${env:X_KEY}, ${X_KEY}", values)[0] == "of the environment, of the command line"


def test_a_keyring_gives_what_it_keeps(ring: PlaintextKeyring) -> None:
    """A service may hold slashes, as addresses do."""
    assert filled("${keyring:https://api.example.com/v1/me}") == (KEY, [])
    assert KEY not in redact(KEY)


def test_a_default_is_for_what_is_not_there(tmp_path: Path, ring: PlaintextKeyring) -> None:
    """Of each kind."""
    text = "${file:/no/such:-a} ${env:NO_SUCH_X:-b} ${keyring:s/nobody:-c} ${env:NO_SUCH_X:-}"
    assert filled(text) == ("a b c ", [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "${file:/no/such}",
            "key: ${file:/no/such} has no value: the file /no/such does not exist",
        ),
        ("${file:/}", "/ cannot be read"),
        ("${env:NO_SUCH_X}", "the environment has no NO_SUCH_X; set it"),
        (
            "${keyring:shop/nobody}",
            "the keyring has no nobody of shop; run: keyring set shop nobody",
        ),
        ("${keyring:shop}", "write SERVICE/NAME"),
    ],
)
def test_what_is_not_there_is_a_problem_with_the_way_out(
    text: str, said: str, ring: PlaintextKeyring
) -> None:
    """Told with its place in the document."""
    kept, problems = filled(text)
    assert kept == text
    assert len(problems) == 1
    assert said in problems[0]


def test_a_value_is_not_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password may look like a reference."""
    (tmp_path / "key").write_text("${HOME} $[yyyymmdd] ${file:/etc/hostname}")
    monkeypatch.setenv("ODD", "${env:HOME}")
    assert filled(f"${{file:{tmp_path}/key}} ${{ODD}}") == (
        "${HOME} $[yyyymmdd] ${file:/etc/hostname} ${env:HOME}",
        [],
    )


def test_workers_look_references_up_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is submitted names the file; the worker's file may hold another key."""
    (tmp_path / "key").write_text(KEY)
    written: dict[str, str] = {}
    text, problems = fill(f"${{file:{tmp_path}/key}}", Values({}), written=written)
    assert problems == []
    pickled = pickle.dumps(referenced(secret_of(text), Written(written), RUN))
    end_run(RUN)
    assert KEY.encode() not in pickled
    (tmp_path / "key").write_text("key-of-the-worker")
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).reveal())"
    out = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True)
    assert out.stdout.decode().strip() == "key-of-the-worker", out.stderr
    (tmp_path / "key").unlink()
    out = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True)
    assert b"of this worker: the file" in out.stderr


def test_workers_must_have_the_variables_of_references() -> None:
    """They are asked before a row is read."""
    written = Written({KEY: "${env:SHOP_KEY}", "other-key": "${file:/run/x}"})
    secrets = [secret_of(KEY), secret_of("other-key")]
    assert names_of([], [s.reveal() for s in secrets], written) == ["SHOP_KEY"]


def test_without_the_library_a_keyring_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extra is small, and not everybody's."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "pip install 'vecferry[keyring]'" in filled("${keyring:a/b}")[1][0]
    monkeypatch.setitem(sys.modules, "dotenv.parser", None)
    with pytest.raises(JobError, match="python-dotenv is not installed"):
        read_env_files(["x.env"])
