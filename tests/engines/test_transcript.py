"""From a recognizer's results to our messages."""

from __future__ import annotations

from speechbridge.engines.options import language_of, phrases_of
from speechbridge.engines.transcript import Transcript, Word
from speechbridge.protocol.messages import Final, Partial, parse_message

WORDS = [Word("Good", 0.1, 0.4, 0.8), Word("morning,", 0.5, 0.9, 0.9, "2")]


def final(transcript: Transcript, text: str, words: list[Word], end: float = 0.0) -> Final:
    message = parse_message(transcript.final(text, words, end) or "")
    assert isinstance(message, Final)
    return message


def test_times_are_the_streams_and_punctuation_is_an_element_of_its_own() -> None:
    message = final(Transcript(60.0), "Good morning,", WORDS, 1.5)
    assert message.text == "Good morning,"
    assert (message.ts, message.end_ts) == (60.1, 61.5)
    assert [(e.value, e.type, e.ts, e.end_ts, e.confidence, e.speaker) for e in message.elements] == [
        ("Good", "text", 60.1, 60.4, 0.8, None),
        (" ", "punct", None, None, None, None),
        ("morning", "text", 60.5, 60.9, 0.9, "2"),
        (",", "punct", None, None, None, None),
    ]


def test_a_number_or_an_abbreviation_keeps_its_dots() -> None:
    values = [word.value for word in final(Transcript(0.0), "", [Word("3.5", 0, 1), Word("U.S.", 1, 2)]).words]
    assert values == ["3.5", "U.S."]


def test_words_that_an_earlier_final_had_are_not_said_again() -> None:
    """With diarization, Google repeats all words from the beginning on."""
    transcript = Transcript(0.0)
    final(transcript, "Good morning,", WORDS, 1.0)
    assert final(transcript, "all", [*WORDS, Word("again", 1.2, 1.6)], 2.0).text == "again"


def test_a_partial_covers_what_no_final_does() -> None:
    transcript = Transcript(10.0)
    final(transcript, "Good morning,", WORDS, 1.0)
    message = parse_message(transcript.partial("how are", 1.8))
    assert isinstance(message, Partial)
    assert (message.text, message.ts, message.end_ts) == ("how are", 11.0, 11.8)


def test_without_times_of_words_the_text_is_said_all_the_same() -> None:
    message = final(Transcript(5.0), "Good morning.", [], 1.0)
    assert message.text == "Good morning."
    assert [word.ts for word in message.words] == [None, None]
    assert (message.ts, message.end_ts) == (5.0, 6.0)


def test_a_final_without_words_settles_and_one_that_says_nothing_new_is_no_message() -> None:
    transcript = Transcript(5.0)
    assert final(transcript, "", [], 1.0).end_ts == 6.0
    assert transcript.final("", [], 1.0) is None


def test_a_final_ends_no_earlier_than_its_last_word() -> None:
    assert final(Transcript(0.0), "Good morning,", WORDS, 0.2).end_ts == 0.9


def test_a_language_gets_a_region_and_the_settings_one_is_the_default() -> None:
    assert [language_of({"language": given}, "en") for given in ("en", "de", "ja", "en-GB")] == [
        "en-US",
        "de-DE",
        "ja-JP",
        "en-GB",
    ]
    assert language_of({}, "fr") == "fr-FR"


def test_a_vocabulary_is_a_list_of_phrases() -> None:
    assert phrases_of({"custom_vocabulary_id": " Speechbridge, good morning,,"}) == ["Speechbridge", "good morning"]
    assert phrases_of({}) == []
