"""Whether a text is in the language that was asked for, told from its script and its function words.

Made for one question only: is this certainly another language? Names, titles and short texts get the benefit of the
doubt, because a good text that is thrown away costs more than a foreign one that stays.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_SCRIPTS = {
    **dict.fromkeys(("ru", "uk", "bg", "sr"), ("CYRILLIC",)),
    "zh": ("CJK",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "ko": ("HANGUL", "CJK"),
    "ar": ("ARABIC",),
    "fa": ("ARABIC",),
    "he": ("HEBREW",),
    "el": ("GREEK",),
    "hi": ("DEVANAGARI",),
    "th": ("THAI",),
}
# Function words that are common, and that are no words of English (except in its own list) nor names.
_FUNCTION_WORDS = {
    "en": "a about an and are as at be but by can do does for from have has how in into is it its like more no not of "
    "on or out so than that the their them there these they this those to very was what when where which while who "
    "with without you your",
    "de": "aber als auf auch aus bei das dem den der des durch ein eine einem einen einer eines für ihr ist mit nach "
    "nicht oder sich sie sind über und vom von wenn wie wird zu zum zur",
    "fr": "au aux avec ce cette ces dans des du elle est et il ils la le les leur mais ou où pas pour que qui sans ses "
    "son sont sur une",
    "es": "al como con cuando de del el ella en es esta este la las lo los muy para pero por que se sin son su sus una "
    "uno y",
    "it": "agli al alla anche che chi con dal dalla dei del della delle di e gli il la le lo nel nella non per più "
    "quando sono una uno un",
    "pt": "ao aos com da das de do dos e ela ele em mais mas na nas no nos não o os ou para pela pelo por quando que "
    "se sem são um uma é",
    "nl": "aan bij dat de deze die een en heeft het hij ook maar met naar niet of om onder ook op te uit van voor "
    "wordt zich zijn",
    "sv": "att av de den det ett för från har hon inte med men och om på som till är",
    "da": "af at de den der det en et for fra har hun ikke med men og om på som til",
    "pl": "ale czy dla do i jak jest na nie od po przez się tego to w z za że",
    "cs": "ale jako je jsou která který na nebo o od pro se si v z za že",
    "tr": "bir bu da de için ile kadar olan olarak ve veya çok",
    "fi": "ei ja joka kun mutta myös on ovat se sekä tai",
    "hu": "a az egy egyik és hogy is mint nem vagy",
    "ro": "ale ca care cel cu din este la mai o pe pentru sau un în și",
    "id": "adalah dan dari dengan di ini itu ke oleh pada untuk yang",
    "vi": "cho có của không là một những này trong và với được",
}
LANGUAGES = tuple(sorted({*_FUNCTION_WORDS, *_SCRIPTS}))
_LISTS = {code: frozenset(listed.split()) for code, listed in _FUNCTION_WORDS.items()}
_FOREIGN = 3  # different function words of another language that a text needs before it is taken to be in it
_SHORT = 10  # words; below this, names are a large part of a text


def is_other_language(text: str, used: Sequence[str], language: str) -> bool:
    """Whether a text is certainly not in a language.

    Args:
        text: as it was written.
        used: its words in lower case.
        language: one of ``LANGUAGES``.
    """
    letters = [letter for letter in text if letter.isalpha()]
    if not letters:
        return False
    expected = _SCRIPTS.get(language, ("LATIN",))
    strange = 0 if text.isascii() and expected == ("LATIN",) else sum(_script(sign) not in expected for sign in letters)
    if strange / len(letters) > (0.5 if len(used) < _SHORT else 0.3):
        return True
    if language not in _LISTS:
        return False
    own = _LISTS[language]
    known = sum(word in own for word in used)
    for listed in _LISTS.values():
        foreign = [word for word in used if word in listed and word not in own]
        if len(set(foreign)) >= _FOREIGN and len(foreign) > known:
            return True
    return False


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").partition(" ")[0]
