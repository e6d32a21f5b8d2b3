"""Other languages are told apart; English with names and titles in it, or with few words, is left alone."""

from __future__ import annotations

import pytest

from semacdr.profiling.language import is_other_language
from semacdr.profiling.words import words

OTHER = [
    "Ein ruhiger Film über das Meer und die Menschen, die von ihm leben.",
    "Ein Film zum Lachen für die ganze Familie.",
    "Une comédie sur des amis qui se retrouvent dans une maison au bord de la mer.",
    "Una comedia sobre los amigos que se encuentran en una casa junto al mar.",
    "Una commedia sugli amici che si ritrovano nella casa al mare, con un finale felice.",
    "Uma comédia sobre os amigos que se encontram numa casa à beira do mar com a família.",
    "Een rustige film over het leven aan zee, voor wie van de natuur houdt en niet bang is.",
    "En stillsam film om livet vid havet och människorna som bor där, för den som har tid.",
    "Spokojny film o ludziach, którzy żyją nad morzem, i o tym, że nie jest to łatwe.",
    "Sakin bir deniz filmi ve çok eski bir aile için yazılmış bir hikâye.",
    "Тихий фильм о море и людях.",
    "一部关于大海与家庭的安静电影，适合夜晚观看。",
    "静かな海の物語です。",
    "Спокойная посуда для дома, easy to clean and good for camping trips with family.",
]
ENGLISH = [
    "A quiet film about the sea and the people who live from it.",
    "Quiet sea drama.",
    "Kettle.",
    "Les Lampes du Verger is a film of grand gestures and the theatre behind them.",
    "Les Lampes du Verger et la Nuit is a film about the theatre and the people who live in it.",
    "A reading of La lampe est bleue by the author, for those who like the sound of it.",
    "Der Abend der Möwe: a slow, sad and careful account of a ship and of those on it.",
    "Slow windswept adventure drama, late eighties, sea setting, earnest tone, strong faces, patient pacing, grey.",
    "Лодочник, a slow journey",
    "Bébé café naïveté, for a soirée à deux",
    "A film by Ayumi Torigawa (鳥川歩) about duty, honour and the price that a village pays for both.",
    "Category: salsa verde. Use: tacos al pastor. Audience: people who cook at home.",
    "Do as I say, to no avail.",
    "",
    "1974 - 1993",
]


@pytest.mark.parametrize("text", OTHER)
def test_other_languages(text: str) -> None:
    assert is_other_language(text, words(text), "en")


@pytest.mark.parametrize("text", ENGLISH)
def test_english(text: str) -> None:
    assert not is_other_language(text, words(text), "en")


def test_prompts_may_ask_for_another_language() -> None:
    german, chinese = OTHER[0], OTHER[11]
    assert not is_other_language(german, words(german), "de")
    assert not is_other_language(chinese, words(chinese), "zh")
    assert is_other_language(ENGLISH[0], words(ENGLISH[0]), "de")
    assert is_other_language(ENGLISH[0], words(ENGLISH[0]), "zh")
    assert is_other_language(chinese, words(chinese), "de")
