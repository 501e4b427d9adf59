"""Bytes of a column in any character set, to the text that a SELECT gives.

For a SELECT the server converts to UTF-8. A log has the bytes as they are stored. Python's codecs
differ from the server's tables in a few places, which are corrected here. Every sequence of bytes
was compared with MySQL 8.0 and MariaDB 10.11. What a server can't convert, it sends as `?`.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable
from typing import Any

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.mysql.values import converter
from vecferry.io.tables.database import Refused

UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4"})
_VAR_STRING, _UTF8_COLLATION = 253, 45

_WIDE = {"ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be"}
_BYTES: dict[str, tuple[str, dict[int, str]]] = {
    "ascii": ("ascii", {}),
    "armscii8": ("latin-1", {0xA1: (
        "❁§։)(»«—.՝,-՟…՜՛՞ԱաԲբԳգԴդԵեԶզԷէԸըԹթԺժԻիԼլԽխԾծԿկՀհՁձՂղՃճՄմՅյՆնՇշՈոՉչՊպՋջՌռՍսՎվՏտՐրՑցՒւՓփՔքՕօՖֆ’'"
    )}),
    "cp1250": ("cp1250", {}),
    "cp1251": ("cp1251", {}),
    "cp1256": ("cp1256", {
        0x8A: "?", 0x8F: "?", 0x98: "?", 0x9A: "?", 0x9F: "?", 0xAA: "?", 0xC0: "?", 0xFF: "?",
    }),
    "cp1257": ("cp1257", {}),
    "cp850": ("cp850", {}),
    "cp852": ("cp852", {}),
    "cp866": ("cp866", {0xFC: "ⁿ²"}),
    "dec8": ("latin-1", {
        0xA4: "?", 0xA6: "?", 0xA8: "¤", 0xAC: "????", 0xB4: "?", 0xB8: "?", 0xBE: "?", 0xD0: "?",
        0xD7: "Œ", 0xDD: "Ÿ?", 0xF0: "?", 0xF7: "œ", 0xFD: "ÿ??",
    }),
    "geostd8": ("cp1252", {
        0x83: "?", 0x88: "?", 0x8A: "?", 0x8C: "?", 0x8E: "?", 0x98: "???", 0x9C: "?", 0x9E: "??",
        0xC0: "აბგდევზჱთიკლმნჲოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ" + "?" * 23 + "№??",
    }),
    "greek": ("iso8859-7", {0xA1: "ʽʼ", 0xA4: "??", 0xAA: "?"}),
    "hebrew": ("iso8859-8", {0xAF: "‾"}),
    "hp8": ("hp-roman8", {}),
    "keybcs2": ("cp852", {
        0x80: "Č", 0x83: "ď", 0x85: "ĎŤčěĚĹÍľĺ", 0x8F: "Á", 0x91: "žŽ", 0x95: "ÓůÚý",
        0x9B: "ŠĽÝŘť", 0xA4: "ňŇŮÔšřŕŔ¼¡", 0xB5: "╡╢╖╕", 0xBD: "╜╛", 0xC6: "╞╟",
        0xCF: "╧╨╤╥╙╘╒╓╫╪", 0xDD: "▌▐", 0xE0: "α", 0xE2: "ΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡", 0xF7: "≈",
        0xF9: "∙·√ⁿ²",
    }),
    "koi8r": ("koi8-r", {}),
    "koi8u": ("koi8-u", {0x95: "•"}),
    "latin1": ("cp1252", {0x81: "\x81", 0x8D: "\x8d", 0x8F: "\x8f\x90", 0x9D: "\x9d"}),
    "latin2": ("iso8859-2", {}),
    "latin5": ("iso8859-9", {}),
    "latin7": ("iso8859-13", {}),
    "macce": ("mac-latin2", {}),
    "macroman": ("mac-roman", {}),
    "swe7": ("ascii", {0x40: "É", 0x5B: "ÄÖÅÜ", 0x60: "é", 0x7B: "äöåü?"}),
    "tis620": ("tis-620", {0xA0: "�", 0xDB: "����", 0xFC: "����"}),
}  # fmt: skip
"""Character sets of a byte a letter: Python's codec, and where the server's table differs."""

_SEVERAL = {
    "big5": "big5", "cp932": "cp932", "euckr": "euc_kr", "gb18030": "gb18030", "gb2312": "gb2312",
    "gbk": "gbk", "sjis": "shift_jis", "ujis": "euc_jp", "eucjpms": "euc_jp",
}  # fmt: skip
"""Character sets of several bytes a letter."""
_OTHERWISE = {
    "gb18030": {"\ue7c7": "ḿ"},
    "sjis": {"＼": "\\"},
    "ujis": {"＼": "\\"},
    "eucjpms": {"〜": "～", "‖": "∥", "−": "－", "¢": "￠", "£": "￡", "¬": "￢", "¦": "￤"},
}
"""Letters of a codec for which the server has another one."""
_UNKNOWN_TO_CODEC = {
    "big5": {0xF9D6: "碁銹裏墻恒粧嫺"},
    "eucjpms": {
        0xADA1: "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳ⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ",
        0xADC0: "㍉㌔㌢㍍㌘㌧㌃㌶㍑㍗㌍㌦㌣㌫㍊㌻㎜㎝㎞㎎㎏㏄㎡",
        0xADDF: "㍻〝〟№㏍℡㊤㊥㊦㊧㊨㈱㈲㈹㍾㍽㍼≒≡∫∮∑√⊥∠∟⊿∵∩∪",
        0x8FF3F3: "ⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅠⅡ",
        0x8FF4A1: (
            "ⅢⅣⅤⅥⅦⅧⅨⅩ＇＂㈱№℡炻仼僴凬匇匤\ufa0e咊坙\ufa0f\ufa10增寬峵嵓\ufa11德悅愠"
            "敎昻晥\ufa12\uf929栁\ufa13\ufa14橫櫢淸淲瀨\ufa15\ufa16甁皂皞\ufa17礰\ufa18\ufa19"
            "\ufa1a\ufa1b竧\ufa1c\ufa1d綠緖\ufa1e荢\ufa1f薰\ufa20\ufa21蠇\ufa22譿賴赶\ufa23"
            "\ufa24\ufa25郞\ufa26鄕\ufa27\ufa28閒\uf9dc\ufa29霻靍靑\ufa2a\ufa2b\ufa2c馞髙魲"
            "\ufa2d黑"
        ),
    },
}
_EUC = frozenset({"ujis", "eucjpms"})
_SINGLE_SHIFT, _PRIVATE, _PRIVATE_LONG, _PRIVATE_LEAD = 0x8F, 0xE000, 0xE3AC, 0xF5
_TILDE = b"\x8f\xa2\xb7"
"""In eucjpms a wide tilde; the codec makes the one of ASCII of it."""

Decode = Callable[[bytes], Any]


@functools.cache
def decoder(charset: str) -> Decode:
    """What makes a text of bytes, or the `UnfitValue` that a SELECT gives for the bytes.

    Raises:
      Refused: the character set is not known here.
    """
    if charset in UTF8:
        return _utf8
    if charset == "binary":
        return bytes
    if charset in _WIDE:
        return functools.partial(_wide, _WIDE[charset])
    if charset in _BYTES:
        return functools.partial(_by_table, _table(*_BYTES[charset]))
    if charset in _SEVERAL:
        return functools.partial(_several, charset, _handled(charset))
    raise Refused(
        f"the character set {charset!r} is not known to this version: convert the column to "
        "utf8mb4, or leave its table out"
    )


def _utf8(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _as_selected(data)


def _as_selected(data: bytes) -> Any:
    try:
        return converter(_VAR_STRING, _UTF8_COLLATION, "")([data])[0]
    except UnfitValue as e:
        return e


def _wide(codec: str, data: bytes) -> str:
    return data.decode(codec, "replace").replace("�", "?")


def _table(codec: str, differences: dict[int, str]) -> str:
    letters = [bytes([b]).decode(codec, "replace").replace("�", "?") for b in range(256)]
    for first, texts in differences.items():
        letters[first : first + len(texts)] = texts
    return "".join(letters)


def _by_table(table: str, data: bytes) -> str:
    return codecs.charmap_decode(data, "strict", table)[0]


def _several(charset: str, handler: str, data: bytes) -> str:
    codec = _SEVERAL[charset]
    if charset == "eucjpms" and _TILDE in data:
        return "～".join(_several(charset, handler, part) for part in data.split(_TILDE))
    text = data.decode(codec, handler)
    for letter, other in _OTHERWISE.get(charset, {}).items():
        text = text.replace(letter, other)
    return text


def _handled(charset: str) -> str:
    """The name of what answers when the codec of a character set does not know a sequence."""
    known = {
        (first + at).to_bytes((first.bit_length() + 7) // 8, "big"): letter
        for first, letters in _UNKNOWN_TO_CODEC.get(charset, {}).items()
        for at, letter in enumerate(letters)
    }

    def handle(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        lead = error.object[error.start]
        size = 3 if charset in _EUC and lead == _SINGLE_SHIFT else 2 if lead >= 0x80 else 1
        unit = bytes(error.object[error.start : error.start + size])
        end = min(error.start + size, len(error.object))
        if unit in known:
            return known[unit], end
        if charset in _EUC and len(unit) == size and unit[-2] >= _PRIVATE_LEAD:
            first = _PRIVATE_LONG if size == 3 else _PRIVATE
            place = (unit[-2] - _PRIVATE_LEAD) * 94 + unit[-1] - 0xA1
            return chr(first + place), end
        return "?", end

    name = f"vecferry-{charset}"
    codecs.register_error(name, handle)
    return name
