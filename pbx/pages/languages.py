"""Languages as people name them: agents' entries and customers' wishes hold codes (RFC 5646), as `de`."""

from __future__ import annotations

import re

from config.errors import TheirError

NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "ca": "Catalan",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sr": "Serbian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
_CODES = {name.casefold(): code for code, name in NAMES.items()}
_CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8}){0,2}")
MOST = 12


def named(code: str) -> str:
    """`German` for `de`; a code that has no name here is its own."""
    return NAMES.get(code, code)


def codes(text: str) -> tuple[str, ...]:
    """The codes in `de, English`, each once and in that order. TheirError 422 for what is no language."""
    found: list[str] = []
    for word in (part.strip().casefold() for part in re.split(r"[,;\n]", text)):
        if not word:
            continue
        code = _CODES.get(word, word)
        if not _CODE.fullmatch(code):
            raise TheirError(
                f"“{word[:40]}” is no language known here: its code will do, as “de” for German.", 422
            )
        if code not in found:
            found.append(code)
    if len(found) > MOST:
        raise TheirError(f"Somebody may have {MOST} languages at most.", 422)
    return tuple(found)
