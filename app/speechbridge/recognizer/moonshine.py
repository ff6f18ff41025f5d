"""Turns samples into tokens: Moonshine's encoder and decoder.

The encoder turns all samples of an utterance into features at once. The decoder then finds one token after the other:
each run gets the token before, and the keys and values that its layers computed for all earlier tokens (the cache). It
returns a score for each possible next token, and the best one is taken (greedy decoding).

The first run fills the cache. It may get a guess: the tokens of an earlier decoding of the same utterance. Then it
scores all of them at once, and the guess is kept up to the first token that is not the best one. This halves the time
of partials, and the text is the same except for rounding errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speechbridge.audio import RATE
from speechbridge.recognizer.models import ModelError
from speechbridge.recognizer.tokens import BEGIN, END, Tokenizer, Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from speechbridge.recognizer.models import Array, ModelFiles

    Samples = NDArray[np.int16]  # 16 kHz mono

# Limits, from Moonshine's own code: they end a loop of hallucinated words. In other languages a word has more tokens.
TOKENS_PER_SECOND = 6.5
TOKENS_PER_SECOND_OTHERS = 13.0
SHORTEST = 4000  # samples; fewer are padded with silence. The encoder needs about 900
CACHE = "past_key_values."
SELF, CROSS = ".decoder.", ".encoder."  # parts of names in the cache: of self-attention, and of cross-attention


@dataclass(frozen=True, slots=True)
class Decoded:
    """The tokens of an utterance, and the probability of each, 0 to 1."""

    tokens: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    is_complete: bool = True  # the model ended with the token END; otherwise it was stopped, most likely in a loop

    @property
    def confidence(self) -> float:
        """The mean of the probabilities."""
        return sum(self.probabilities) / len(self.probabilities) if self.probabilities else 0.0


class Moonshine:
    """A speech model. Stateless: threads may share it."""

    def __init__(self, files: ModelFiles, tokens_per_second: float = TOKENS_PER_SECOND) -> None:
        """Check a model's files. Raises ModelError if they do not fit together."""
        self._tokens_per_second = tokens_per_second
        try:
            self._tokenizer = Tokenizer(files.tokenizer)
        except ValueError as error:
            raise ModelError(f"the model's tokenizer.bin cannot be read: {error}") from None
        self._encoder, self._decoder = files.encoder, files.decoder
        self._no_cache = {
            name: np.zeros([axis if isinstance(axis, int) else 1 for axis in shape], np.float32)
            for name, shape in self._decoder.inputs.items()
            if name.startswith(CACHE)
        }
        self._try_out()

    def decode(self, samples: Samples, guess: Sequence[int] = ()) -> Decoded:
        """Transcribe samples. `guess` may be the tokens of an earlier part of them."""
        length = max(len(samples), SHORTEST)
        padded = np.zeros((1, length), np.float32)
        padded[0, : len(samples)] = samples / np.float32(32768)
        mask = np.ones((1, length), np.int64)
        (features, *_) = self._encoder.run({"input_values": padded, "attention_mask": mask})
        most = int(length / RATE * self._tokens_per_second) + 1
        decoding = _Decoding(self, {"encoder_hidden_states": features, "encoder_attention_mask": mask}, guess[:most])
        while len(decoding.tokens) < most and decoding.next != END:
            decoding.step()
        return Decoded(tuple(decoding.tokens), tuple(decoding.probabilities), decoding.next == END)

    def words(self, decoded: Decoded) -> list[Word]:
        """Return the words that were decoded."""
        return self._tokenizer.words(decoded.tokens, decoded.probabilities)

    def run_decoder(
        self, encoded: dict[str, Array], tokens: Sequence[int], cache: dict[str, Array] | None
    ) -> tuple[Array, dict[str, Array]]:
        """Return the scores of the token after each of these tokens, and the cache for the next run.

        `cache` is None in the first run of an utterance.
        """
        inputs: dict[str, Array] = {
            **encoded,
            **(cache or self._no_cache),
            "input_ids": np.array([tokens], np.int64),
            "use_cache_branch": np.array([cache is not None]),
        }
        outputs = dict(zip(self._decoder.outputs, self._decoder.run(inputs), strict=True))
        scores = outputs.pop("logits")[0]
        fresh = {name.replace("present.", CACHE, 1): array for name, array in outputs.items()}
        if cache is not None:  # cross-attention does not change: later runs do not return it
            fresh |= {name: array for name, array in cache.items() if CROSS in name}
        return scores, fresh

    def _try_out(self) -> None:
        """Decode a little silence: files that do not fit together fail here, and not in the first stream."""
        try:
            self.decode(np.zeros(RATE, np.int16))
        except Exception as error:  # noqa: BLE001 # onnxruntime's exceptions have no base class of their own
            line = str(error).partition("\n")[0][:200]
            raise ModelError(f"the model's files do not fit together: {type(error).__name__}: {line}") from None
        scored, known = self._decoder.outputs["logits"][-1], len(self._tokenizer)
        if isinstance(scored, int) and scored != known:
            raise ModelError(f"the model's decoder has {scored} tokens, its tokenizer.bin {known}")


class _Decoding:
    """The decoding of one utterance: the `tokens` so far, and the `next` one."""

    def __init__(self, model: Moonshine, encoded: dict[str, Array], guess: Sequence[int]) -> None:
        self._model = model
        self._encoded = encoded
        scores, cache = model.run_decoder(encoded, (BEGIN, *guess), None)
        best = scores.argmax(axis=-1)
        right = next((nth for nth, token in enumerate(guess) if best[nth] != token), len(guess))
        if right < len(guess):
            cache = {name: array[:, :, : right + 1] if SELF in name else array for name, array in cache.items()}
        self._cache = cache
        self.tokens = list(guess[:right])
        self.probabilities = [_probability(scores[nth]) for nth in range(right)]
        self.next, self._next_probability = int(best[right]), _probability(scores[right])

    def step(self) -> None:
        """Add `next` to the tokens, and find the token after it."""
        self.tokens.append(self.next)
        self.probabilities.append(self._next_probability)
        scores, self._cache = self._model.run_decoder(self._encoded, (self.next,), self._cache)
        self.next, self._next_probability = int(scores[-1].argmax()), _probability(scores[-1])


def _probability(scores: Array) -> float:
    """Return the probability of the best token: the largest value of the softmax."""
    return 1.0 / float(np.exp(scores - scores.max()).sum())
