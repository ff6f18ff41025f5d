"""Compressed audio, decoded live: whatever clients record, to the samples that a recognizer takes.

    client's bytes --> Source --> a reader (webm, ogg, mp4, mpeg, flac, wav, samples) --> packets --> Codec --> samples

Input comes cut anywhere, and what can be heard comes out at once. The readers are generators that wait for bytes with a
bare `yield`; they know nothing of sockets, threads or FFmpeg, and take nothing on trust: every size is bounded before
it is waited for. FFmpeg's decoders do the rest (`codec.py`).

Whole files of any other format that FFmpeg knows are read by its own demuxers (`files.py`).

A decoder lives as long as its session. A client that resumes goes on with the byte after the last one received, on
another connection, and the decoder does not notice.
"""

from speechbridge.codecs.decoder import Decoder, decodes, is_heard
from speechbridge.codecs.detect import kind_of
from speechbridge.codecs.files import decode_file

__all__ = ["Decoder", "decode_file", "decodes", "is_heard", "kind_of"]
