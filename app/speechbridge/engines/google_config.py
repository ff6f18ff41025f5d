"""The configuration and the responses of Google Cloud Speech, v1 and v2, translated from and to our protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.cloud import speech_v1 as v1
from google.cloud import speech_v2 as v2

from speechbridge.engines.options import language_of, phrases_of
from speechbridge.engines.transcript import Word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.engines.transcript import Transcript
    from speechbridge.protocol.request import StreamRequest

BOOST = 10.0  # of at most 20; Google advises to start there
MOST_SPEAKERS = 6  # Google's own default
MODEL = "long"  # v2 has no default; this model takes audio of any length, in any language


def config_v1(request: StreamRequest, language: str, model: str) -> Any:
    """Return the configuration of a stream of 16-bit samples."""
    kind, options = request.content_type, request.options
    config = v1.RecognitionConfig(
        encoding=v1.RecognitionConfig.AudioEncoding.LINEAR16,
        sample_rate_hertz=kind.rate,
        audio_channel_count=kind.channels,
        language_code=language_of(options, language),
        model=model,
        profanity_filter=bool(options.get("filter_profanity")),
        enable_word_time_offsets=True,
        enable_word_confidence=True,
        enable_automatic_punctuation=not options.get("skip_postprocessing"),
    )
    if phrases := phrases_of(options):
        config.speech_contexts = [v1.SpeechContext(phrases=phrases, boost=BOOST)]
    if options.get("enable_speaker_switch"):
        config.diarization_config = v1.SpeakerDiarizationConfig(
            enable_speaker_diarization=True, max_speaker_count=MOST_SPEAKERS
        )
    return v1.StreamingRecognitionConfig(config=config, interim_results=True)


def config_v2(request: StreamRequest, language: str, model: str) -> Any:
    """Return the same for v2."""
    kind, options = request.content_type, request.options
    features = v2.RecognitionFeatures(
        profanity_filter=bool(options.get("filter_profanity")),
        enable_word_time_offsets=True,
        enable_word_confidence=True,
        enable_automatic_punctuation=not options.get("skip_postprocessing"),
    )
    if options.get("enable_speaker_switch"):
        features.diarization_config = v2.SpeakerDiarizationConfig(min_speaker_count=1, max_speaker_count=MOST_SPEAKERS)
    config = v2.RecognitionConfig(
        language_codes=[language_of(options, language)], model=model or MODEL, features=features
    )
    config.explicit_decoding_config = v2.ExplicitDecodingConfig(
        encoding=v2.ExplicitDecodingConfig.AudioEncoding.LINEAR16,
        sample_rate_hertz=kind.rate,
        audio_channel_count=kind.channels,
    )
    if phrases := phrases_of(options):
        inline = v2.PhraseSet(phrases=[v2.PhraseSet.Phrase(value=phrase, boost=BOOST) for phrase in phrases])
        config.adaptation = v2.SpeechAdaptation(
            phrase_sets=[v2.SpeechAdaptation.AdaptationPhraseSet(inline_phrase_set=inline)]
        )
    return v2.StreamingRecognitionConfig(
        config=config, streaming_features=v2.StreamingRecognitionFeatures(interim_results=True)
    )


def messages(response: Any, transcript: Transcript) -> Iterator[str]:
    """Yield our messages for a protobuf response of v1 or v2: the finals, then one partial of all interim results."""
    interim, until = "", 0.0
    for result in response.results:
        end = _seconds(_either(result, "result_end_time", "result_end_offset"))
        best = result.alternatives[0] if result.alternatives else None
        text = best.transcript if best else ""
        if not result.is_final:
            interim, until = interim + text, max(until, end)
        elif message := transcript.final(text, [_word(word) for word in best.words] if best else [], end):
            yield message
    if interim:
        yield transcript.partial(interim, until)


def _word(word: Any) -> Word:
    start, end = _either(word, "start_time", "start_offset"), _either(word, "end_time", "end_offset")
    speaker = word.speaker_label or str(getattr(word, "speaker_tag", 0) or "") or None
    return Word(word.word, _seconds(start), _seconds(end), round(word.confidence, 3) or None, speaker)


def _either(message: Any, v1_name: str, v2_name: str) -> Any:
    return getattr(message, v1_name) if v1_name in message.DESCRIPTOR.fields_by_name else getattr(message, v2_name)


def _seconds(duration: Any) -> float:
    return float(duration.seconds) + float(duration.nanos) / 1e9
