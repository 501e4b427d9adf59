"""Chunks by tokens, whatever the tokenizer makes of a character: of several tokens, or of parts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from vecferry.transforms.text_split.cuts import cutter
from vecferry.transforms.text_split.settings import TextSplitSettings

LETTERS = "a b.\n🙂é中ﬁ文İe\u0301\u200d👩‍👩‍👧ßﬀ½\r\tｶﾞ한"
TEXTS = ["".join(random.Random(seed).choices(LETTERS, k=seed % 60 + 1)) for seed in range(60)]


def _of_bytes(*, prefix: bool = False, regex: bool = True) -> Tokenizer:
    """Tokens of bytes and of pairs of bytes, which may be of two characters."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def _normalized() -> Tokenizer:
    """Of a text of other characters than those of the document, more or fewer."""
    made = _of_bytes()
    steps = [normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()]
    made.normalizer = normalizers.Sequence(steps)
    return made


def _of_single_bytes() -> Tokenizer:
    """Each byte of a character is a token."""
    known = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    made = Tokenizer(models.BPE(known, [], unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return made


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": _of_bytes,
    "bytes behind a blank": lambda: _of_bytes(prefix=True),
    "bytes across words": lambda: _of_bytes(regex=False),
    "normalized": _normalized,
    "single bytes": _of_single_bytes,
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_chunk_is_of_whole_characters_and_none_is_lost(name: str, tmp_path: Path) -> None:
    """Each stands where it says, however few tokens a chunk may have."""
    path = tmp_path / "tokenizer.json"
    TOKENIZERS[name]().save(str(path))
    for size in (1, 3, 8):
        cut = cutter(
            TextSplitSettings(
                source_column_name="text",
                chunk_size=size,
                unit="tokens",
                tokenizer=str(path),
                by="sentence" if size == 3 else "paragraph",
            )
        )
        for text in TEXTS:
            end = 0
            for start, chunk in cut(text):
                assert text[start : start + len(chunk)] == chunk
                assert text[end:start].strip() == ""
                end = start + len(chunk)
            assert text[end:].strip() == ""


def test_a_tokenizer_counts_the_same_for_a_part_as_for_the_document(tmp_path: Path) -> None:
    """A chunk has hardly more tokens than it may, unless it is one character."""
    path = tmp_path / "tokenizer.json"
    tokenizer = _of_bytes()
    tokenizer.save(str(path))
    settings = TextSplitSettings(
        source_column_name="text", chunk_size=8, unit="tokens", tokenizer=str(path)
    )
    chunks = [chunk for text in TEXTS for _, chunk in cutter(settings)(text)]
    sizes = [len(tokenizer.encode(chunk, add_special_tokens=False).ids) for chunk in chunks]
    assert max(n for n, chunk in zip(sizes, chunks, strict=True) if len(chunk) > 1) <= 8 + 2
