"""transformers' own LLaVA in float32, the whole model in memory: it reads Hugging Face checkpoints by itself."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers
from aesedge_export.checkpoint import layouts
from aesedge_export.parity.reference_pixels import LlavaPixels
from aesedge_export.parity.torch_threads import OnTorchThreads
from transformers import DynamicCache, LlavaConfig, LlavaForConditionalGeneration
from transformers.utils import logging

from aesedge.errors import ParityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aesedge_export.checkpoint.checkpoint import Checkpoint
    from aesedge_export.parity.forced import ForcedSequence
    from aesedge_export.parity.stages import FloatArray


class WholeReference(OnTorchThreads):
    """A checkpoint in PyTorch, on so many CPU threads (of the whole process, until it is closed)."""

    def __init__(self, checkpoint: Checkpoint, n_threads: int) -> None:
        self.pixels = LlavaPixels(checkpoint)
        with _quiet_transformers():
            model = _load_hf(checkpoint) if checkpoint.layout == layouts.HF else None
            reader = "transformers" if model is not None else "aesedge"
            self._model = (_load_canonical(checkpoint) if model is None else model).eval()
        self.description = (
            f"transformers {transformers.__version__} LlavaForConditionalGeneration, float32, weights read by {reader}"
        )
        super().__init__(n_threads)

    @torch.inference_mode()
    def encode_images(self, pixels: Sequence[FloatArray], *progress: Callable[[float], None]) -> list[FloatArray]:
        """Return the projector's output for images, float32 [n_image_tokens, n_embd] each."""
        found = []
        for of_one in pixels:
            rows = self._model.get_image_features(pixel_values=torch.from_numpy(of_one))[0]
            found.append(np.asarray(rows.reshape(-1, rows.shape[-1]).numpy(), np.float32))
        for report in progress:
            report(1.0)
        return found

    @torch.inference_mode()
    def logits(self, sequences: Sequence[ForcedSequence], *progress: Callable[[float], None]) -> list[FloatArray]:
        """Do what :class:`.forced.LogitSource` says; neighbours with one image share its keys and values."""
        embed = self._model.get_input_embeddings()
        found: list[FloatArray] = []
        image, cache, n_image = None, DynamicCache(), 0
        for sequence in sequences:
            if sequence.rows is not image:
                image, cache = sequence.rows, DynamicCache()
                prefix = torch.cat([embed(torch.tensor(sequence.before)), torch.from_numpy(sequence.rows)])[None]
                n_image = prefix.shape[1]
                self._model(inputs_embeds=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
            text = torch.tensor([sequence.after + sequence.continuation])
            n_last = 1 + len(sequence.continuation)
            out = self._model(input_ids=text, past_key_values=cache, use_cache=True, logits_to_keep=n_last)
            found.append(np.array(out.logits[0].numpy(), np.float32))
            cache.crop(n_image)
        for report in progress:
            report(1.0)
        return found

    def close(self) -> None:
        """Give the process its threads back and let go of the weights."""
        super().close()
        del self._model


def _load_hf(checkpoint: Checkpoint) -> LlavaForConditionalGeneration | None:
    """Let transformers read the checkpoint; None if this version does not find all of it."""
    model, info = LlavaForConditionalGeneration.from_pretrained(
        checkpoint.folder,
        dtype=torch.float32,
        attn_implementation="eager",
        local_files_only=True,
        output_loading_info=True,
    )
    return None if _needed(checkpoint, info["missing_keys"]) else model


def _load_canonical(checkpoint: Checkpoint) -> LlavaForConditionalGeneration:
    """Build transformers' model from our canonical tensors, for the layout that transformers cannot read."""
    architecture = checkpoint.architecture
    n_layers = architecture.vision.num_hidden_layers
    config = LlavaConfig(
        vision_config=architecture.vision.to_dict(),
        text_config=architecture.text.to_dict(),
        vision_feature_layer=architecture.n_tower_layers - n_layers - 1,
        vision_feature_select_strategy="default",
        multimodal_projector_bias=architecture.projector_bias,
        image_token_index=architecture.text.vocab_size - 1,  # not used: rows are put in by hand
        attn_implementation="eager",
    )
    model = LlavaForConditionalGeneration(config).float()
    live = layouts.canonical_names(model.state_dict(), layouts.HF)
    tensors = {live[name]: checkpoint.tensor(name).float() for name in checkpoint.names("") if name in live}
    missing, _ = model.load_state_dict(tensors, strict=False)
    lost = _needed(checkpoint, missing)
    if lost:
        raise ParityError(f"{checkpoint.folder}: transformers has '{lost[0]}' elsewhere; export without parity")
    return model


def _needed(checkpoint: Checkpoint, missing: Iterable[str]) -> list[str]:
    """Return what of the missing tensors matters; a reference with random weights in it would prove nothing."""
    needed = checkpoint.architecture.expected_shapes()
    return [name for name in layouts.canonical_names(missing, layouts.HF) if name in needed]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars, and its warnings about weights that are not used, off the user's terminal."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
