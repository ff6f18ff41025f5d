"""Decodes compressed audio live: from the formats that clients record to the samples that a recognizer takes.

    client's bytes --> Source --> a reader (webm, ogg, mp4, mpeg, flac, wav, samples) --> packets --> Codec --> samples

The input may be cut anywhere, and all samples that can be decoded come out at once. The readers are generators that
wait for more bytes with a bare `yield`. They know nothing of sockets, threads or FFmpeg, and trust nothing: they check
every size against a limit before they wait for so many bytes. FFmpeg's decoders do the rest (`codec.py`).

FFmpeg's own demuxers read whole files of all other formats (`files.py`).

A decoder lives as long as its session. A client that resumes continues on another connection with the byte after the
last one received, and the decoder does not notice the change.
"""

from speechbridge.codecs.decoder import Decoder, decodes, is_decodable
from speechbridge.codecs.detect import kind_of
from speechbridge.codecs.files import decode_file

__all__ = ["Decoder", "decode_file", "decodes", "is_decodable", "kind_of"]
