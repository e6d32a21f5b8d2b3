"""Words: how a text is taken apart, and which forms of a forbidden word count as that word."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_FUNCTION_WORDS = (
    "about after all and any are but can did for from get had has have her here him his how into its let more new not "
    "now off one our out over she some than that the their them then there they this too two under upon was way were "
    "what when where which who why will with you your pack set count ounce inch size"
)
_STOPWORDS = frozenset(_FUNCTION_WORDS.split())


def words(text: str) -> list[str]:
    """The words of a text in lower case, without possessive endings; a hyphenated word stands whole and in parts."""
    found = []
    for word in _WORD.findall(re.sub(r"['’]s\b", "", text.lower())):
        found.append(word)
        if "-" in word:
            found.extend(word.split("-"))
    return found


def forms(word: str) -> tuple[str, ...]:
    """A word and its regular plural."""
    return (word, word[:-1] + "ies") if word.endswith("y") else (word, word + "s")


def content_words(title: str) -> tuple[str, ...]:
    """The words of a title that carry meaning: three letters or more, no function words, no numbers."""
    return tuple(sorted({word for word in words(title) if len(word) > 2 and word not in _STOPWORDS}))


def singular(word: str) -> str:
    """The regular singular of a word, so that a domain named in the plural also stands for one of its things."""
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def spellings(word: str) -> list[str]:
    """A word's forms in lower, title and upper case, the likeliest first."""
    return list(dict.fromkeys(case(form) for case in (str, str.capitalize, str.upper) for form in sorted(forms(word))))
