"""A finished pocket on disk: one folder with all weights and the tokenizer; and how an export reads it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from aesedge_export.checkpoint.vocabulary import open_tokenizer, read_vocabulary
from aesedge_export.parity.torch_threads import OnTorchThreads
from safetensors.torch import load_file, save_file

from .crops import normalised
from .efficientnet import EfficientNetLite0
from .tokenizer import BOS, EOS
from .tower import Tower
from .train_language import VOCAB, LanguageModel, llama_config
from .vision_files import N_IMAGE_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aesedge_export.parity.forced import ForcedSequence
    from aesedge_export.parity.stages import FloatArray
    from PIL import Image

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.model"


def save_checkpoint(tower: Tower, language_model: LanguageModel, tokenizer: Path, out: Path) -> None:
    """Write weights and tokenizer; the code of the judgement is the tower's and the language model's at once."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {f"tower.{name}": tensor for name, tensor in tower.state_dict().items()}
    tensors |= {f"llama.{name}": tensor for name, tensor in language_model.llama.state_dict().items()}
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, out / WEIGHTS)
    shutil.copyfile(tokenizer, out / TOKENIZER)


def load_checkpoint(folder: Path) -> tuple[Tower, LanguageModel]:
    """Return the tower and the language model of a checkpoint, ready to be asked."""
    tensors = load_file(folder / WEIGHTS)
    language_model = LanguageModel()
    tower = Tower(EfficientNetLite0(), language_model.code)
    for part, model in (("tower.", tower), ("llama.", language_model.llama)):
        model.load_state_dict({name.removeprefix(part): t for name, t in tensors.items() if name.startswith(part)})
    return tower.eval(), language_model.eval()


@dataclass(frozen=True)
class PocketCheckpoint:
    """What the export of language models and the proof read of a checkpoint."""

    folder: Path
    language_model: LanguageModel

    @property
    def architecture(self) -> Any:
        """The shape of the language model."""
        return SimpleNamespace(text=llama_config())

    @cached_property
    def vocabulary(self) -> Any:
        """One entry for each row of the token table."""
        return read_vocabulary(self.folder, VOCAB, {"bos": BOS, "eos": EOS, "pad": None})

    @cached_property
    def _encode(self) -> Callable[[str], list[int]]:
        return open_tokenizer(self.folder)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without BOS, independent of llama.cpp."""
        return self._encode(text) if text else []

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor by its name in the exporter."""
        stored = self.language_model.llama.state_dict()
        return stored[name if name.startswith("lm_head") else f"model.{name.removeprefix('language_model.')}"]

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return some rows of a tensor."""
        return self.tensor(name)[start:stop]

    def dtype(self, name: str) -> torch.dtype:
        """Return the type in which a tensor is stored."""
        return self.tensor(name).dtype


class PocketReference(OnTorchThreads):
    """Pocket in PyTorch: the same tower, transformers' Llama."""

    def __init__(self, tower: Tower, language_model: LanguageModel, n_threads: int) -> None:
        self._tower, self._model = tower, language_model.llama
        self.description = (
            f"PyTorch {torch.__version__}, transformers {transformers.__version__} LlamaForCausalLM, float32"
        )
        super().__init__(n_threads)

    def pixels(self, image: Image.Image) -> FloatArray:
        """Return the tower's input, by its own steps."""
        return np.asarray(normalised([image]).numpy(), np.float32)

    @torch.inference_mode()
    def encode_images(
        self, pixels: Sequence[FloatArray], progress: Callable[[float], None] | None = None
    ) -> list[FloatArray]:
        """Return the rows of images, float32 [N_IMAGE_TOKENS, width] each."""
        rows = [self._tower(torch.from_numpy(one)) for one in pixels]
        if progress is not None:
            progress(1.0)
        return [np.repeat(row.numpy(), N_IMAGE_TOKENS, 0) for row in rows]

    @torch.inference_mode()
    def logits(
        self, sequences: Sequence[ForcedSequence], progress: Callable[[float], None] | None = None
    ) -> list[FloatArray]:
        """Implement :class:`aesedge_export.parity.forced.LogitSource`."""
        embed = self._model.get_input_embeddings()
        found: list[FloatArray] = []
        for i, sequence in enumerate(sequences):
            text = torch.tensor(sequence.after + sequence.continuation)
            parts = [embed(torch.tensor(sequence.before)), torch.from_numpy(sequence.rows), embed(text)]
            n_last = 1 + len(sequence.continuation)
            out = self._model(inputs_embeds=torch.cat(parts)[None], logits_to_keep=n_last)
            found.append(np.array(out.logits[0].numpy(), np.float32))
            if progress is not None:
                progress((i + 1) / len(sequences))
        return found
