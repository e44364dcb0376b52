"""What PyTorch answers: transformers' LLaVA in float32, LLaVA's order of preprocessing, sentencepiece's own tokens.

Nothing of aesedge's runtime is used here. A Hugging Face checkpoint is read by transformers itself, so that a name or
a field that we misread shows up as a difference; what it cannot read (the original layout, spellings of later
versions) is put into its model under our names, and ``description`` says so.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers
from PIL import Image
from sentencepiece import SentencePieceProcessor
from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration
from transformers.utils import logging

from aesedge.errors import ParityError

from . import layouts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from .checkpoint import Checkpoint
    from .stages import Answer, FloatArray


class Reference:
    """A checkpoint in PyTorch, on so many CPU threads (of the whole process, until it is closed)."""

    def __init__(self, checkpoint: Checkpoint, n_threads: int) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = SentencePieceProcessor(model_file=str(checkpoint.folder / "tokenizer.model"))
        self._processor = _image_processor(checkpoint)
        with _quiet_transformers():
            model = _load_hf(checkpoint) if checkpoint.layout == layouts.HF else None
            reader = "transformers" if model is not None else "aesedge"
            self._model = (_load_canonical(checkpoint) if model is None else model).eval()
        self.description = (
            f"transformers {transformers.__version__} LlavaForConditionalGeneration, float32, weights read by {reader}"
        )
        self._n_threads_before = torch.get_num_threads()
        torch.set_num_threads(n_threads)

    def tokens(self, text: str) -> list[int]:
        """Return the ids of one piece of text, without BOS."""
        return list(self._tokenizer.encode(text)) if text else []

    def pixels(self, image: Image.Image) -> FloatArray:
        """Return LLaVA's pixels of an RGB image, float32 [1, 3, image_size, image_size]."""
        side = max(image.size)
        square = Image.new("RGB", (side, side), tuple(int(x * 255) for x in self._processor.image_mean))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        pixels = self._processor(square, return_tensors="np")["pixel_values"]
        return np.asarray(pixels, np.float32)

    @torch.inference_mode()
    def image_embeddings(self, pixels: FloatArray) -> FloatArray:
        """Return the projector's output for one image, float32 [n_image_tokens, n_embd]."""
        rows = self._model.get_image_features(pixel_values=torch.from_numpy(pixels))
        return np.asarray(rows[0].reshape(-1, rows[0].shape[-1]).numpy(), np.float32)

    @torch.inference_mode()
    def greedy(self, before: list[int], rows: FloatArray, after: list[int], n_tokens: int) -> Answer:
        """Continue a prompt by the likeliest token each time.

        Args:
            before: token ids in front of the image, BOS among them.
            rows: image embeddings, float32 [n_image_tokens, n_embd].
            after: token ids behind the image.
            n_tokens: how many tokens to choose; an end-of-sequence token does not stop.

        Returns:
            The tokens, and the logits float32 [n_vocab] each was chosen from.
        """
        embed = self._model.get_input_embeddings()
        parts = [embed(torch.tensor(before)), torch.from_numpy(rows), embed(torch.tensor(after))]
        out = self._model(inputs_embeds=torch.cat(parts)[None], use_cache=True, logits_to_keep=1)
        tokens: list[int] = []
        logits: list[FloatArray] = []
        while True:
            logits.append(np.asarray(out.logits[0, -1].numpy(), np.float32))
            tokens.append(int(logits[-1].argmax()))
            if len(tokens) == n_tokens:
                return tokens, logits
            step = torch.tensor([tokens[-1:]])
            out = self._model(input_ids=step, past_key_values=out.past_key_values, use_cache=True)

    def close(self) -> None:
        """Let go of the weights."""
        torch.set_num_threads(self._n_threads_before)
        del self._model

    def __enter__(self) -> Reference:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def _image_processor(checkpoint: Checkpoint) -> CLIPImageProcessor:
    """Return CLIP's preprocessing as LLaVA sets it up: the checkpoint's own where it has one."""
    folder = checkpoint.folder
    if (folder / "preprocessor_config.json").is_file():
        return CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    size, image = checkpoint.architecture.vision.image_size, checkpoint.image
    return CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(image.mean),
        image_std=list(image.std),
    )


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
