"""Run the vision tower (with projector) on ONNX Runtime: pixels in, image embeddings out.

The projector is inside the graph.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aesedge.errors import (
    BundleFormatError,
    ImageError,
    InferenceError,
    ModelLoadError,
    ProviderError,
    UsageError,
)
from aesedge.system.closing import Closing
from aesedge.system.error_text import shortened
from aesedge.system.openmp_waiting import openmp_waiting
from aesedge.vision.providers import FATAL_ONLY, PROVIDERS, Device, choose_provider, load_onnxruntime

if TYPE_CHECKING:
    from pathlib import Path

INPUT, OUTPUT = "pixel_values", "image_embeddings"
N_INPUT = "n_image_tokens"
"""Second input, int64 [1], of a graph that reduces its image tokens: their number."""
_MAX_SIDE = 1 << 16  # of any side of what goes in or comes out: a foreign graph may say anything
ALLOW_SPINNING = "0"
"""ONNX Runtime's setting for spinning threads. Spinning takes cores from other programs and gains nothing on an idle
machine (docs/speed.md)."""


class VisionTower(Closing):
    """One vision graph, ready to run.

    Args:
        path: the ONNX file.
        device: where it runs; ``auto`` takes CUDA where ONNX Runtime can use it, otherwise the CPU.
        n_threads: CPU threads.

    Raises:
        ProviderError: the device that was asked for is not active.
        ModelLoadError: ONNX Runtime refuses the file.
        BundleFormatError: the graph's inputs or outputs are not those of a vision tower.
    """

    def __init__(self, path: Path, *, device: Device = "auto", n_threads: int = 0) -> None:
        self.path = path
        ort = load_onnxruntime()
        self._run_options = ort.RunOptions
        self._running: list[Any] = []
        self.provider = choose_provider(ort, device)
        self.runtime = f"onnxruntime {ort.__version__}"
        """What runs the graph; its kernels change with its versions."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.log_severity_level = FATAL_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", ALLOW_SPINNING)
        try:
            self._session: Any = ort.InferenceSession(path, sess_options=options, providers=[self.provider])
        except Exception as error:  # noqa: BLE001 (onnxruntime's exceptions share no base class)
            raise ModelLoadError(
                f"{path}: ONNX Runtime cannot load it: {_one_line(error)}; export or install the bundle again"
            ) from None
        active = self._session.get_providers()
        if self.provider not in active:
            raise ProviderError(
                f"{path}: ONNX Runtime fell back from {self.provider} to {', '.join(active)}; "
                "--device cpu runs without a GPU"
            )
        self._read_shapes()

    def _read_shapes(self) -> None:
        inputs = {i.name: i.shape for i in self._session.get_inputs()}
        outputs = {o.name: o.shape for o in self._session.get_outputs()}
        facts = self._session.get_modelmeta().custom_metadata_map
        pixels, rows = inputs.get(INPUT), list(outputs.get(OUTPUT) or [])
        if N_INPUT in inputs and len(rows) == 3 and re.fullmatch("[0-9]{1,5}", facts.get(N_INPUT, "")):
            rows[1] = int(facts[N_INPUT])
        if not (
            pixels
            and len(pixels) == 4
            and len(rows) == 3
            and all(isinstance(n, int) and 0 < n <= _MAX_SIDE for n in (*pixels[1:], *rows[1:]))
            and pixels[1] == 3
            and pixels[2] == pixels[3]
            and set(inputs) <= {INPUT, N_INPUT}
        ):
            raise BundleFormatError(
                f"{self.path}: a vision graph has the input {INPUT} [batch, 3, size, size] and the output {OUTPUT} "
                f"[batch, image tokens, width]; this one has {shortened(inputs)} and {shortened(outputs)}"
            )
        self.image_size: int = pixels[2]
        self.n_image_tokens: int = rows[1]
        """The most that an image takes."""
        self.n_embd: int = rows[2]
        self.reduction: str = facts.get("reduction", "unknown")[:100] if N_INPUT in inputs else "none"
        """How it comes to fewer image tokens; ``none`` means that it has all of them only."""

    def encode(
        self, pixel_values: npt.NDArray[np.float32], n_image_tokens: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Encode one image.

        Args:
            pixel_values: float32 [1, 3, image_size, image_size], normalised.
            n_image_tokens: number of image tokens; None for all.

        Returns:
            Image embeddings, float32 [n_image_tokens, n_embd].

        Raises:
            ImageError: the shape or dtype is wrong.
            UsageError: the graph cannot make this number of image tokens.
            InferenceError: ONNX Runtime failed.
        """
        self._check_pixels(pixel_values, n_images=1)
        rows: npt.NDArray[np.float32] = self._run(self._feeds(pixel_values, n_image_tokens))[0]
        return rows

    @property
    def is_on_cpu(self) -> bool:
        """Whether the graph runs on the processor's cores."""
        return self.provider == PROVIDERS["cpu"]

    @property
    def gains_by_batches(self) -> bool:
        """Whether several images at once are faster: not on a CPU, whose cores one image fills.

        Measured, a photo of four at once against one by one: pocket 12.7 ms against 13.6, ViT-L/336 in int8 on two
        cores 743 ms against 700.
        """
        return not self.is_on_cpu

    def encode_batch(
        self, pixel_values: npt.NDArray[np.float32], n_image_tokens: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Encode several images, see :meth:`encode`.

        Args:
            pixel_values: float32 [n, 3, image_size, image_size], normalised; n is 1 or more.
            n_image_tokens: number of image tokens of each; None for all.

        Returns:
            Image embeddings, float32 [n, n_image_tokens, n_embd].
        """
        self._check_pixels(pixel_values, n_images=max(1, len(pixel_values)))
        rows: npt.NDArray[np.float32] = self._run(self._feeds(pixel_values, n_image_tokens))
        return rows

    def _check_pixels(self, pixel_values: npt.NDArray[np.float32], *, n_images: int) -> None:
        if self._session is None:
            raise UsageError("this model was closed")
        wanted = (n_images, 3, self.image_size, self.image_size)
        if pixel_values.shape != wanted or pixel_values.dtype != np.float32:
            raise ImageError(
                f"pixels are {pixel_values.dtype} {list(pixel_values.shape)}, the tower reads float32 {list(wanted)}"
            )

    def _feeds(self, pixel_values: npt.NDArray[np.float32], n_image_tokens: int | None) -> dict[str, npt.NDArray[Any]]:
        """Return the graph's inputs by name."""
        n = self.n_image_tokens if n_image_tokens is None else n_image_tokens
        if self.reduction == "none":
            if n != self.n_image_tokens:
                raise UsageError(
                    f"{n} image tokens are asked for; {self.path.name} has {self.n_image_tokens} and cannot reduce "
                    "them: export the bundle again"
                )
            return {INPUT: pixel_values}
        if not 1 <= n <= self.n_image_tokens:
            raise UsageError(f"{n} image tokens are asked for; {self.path.name} makes 1 to {self.n_image_tokens}")
        return {INPUT: pixel_values, N_INPUT: np.array([n], np.int64)}

    def _run(self, feeds: dict[str, npt.NDArray[Any]]) -> Any:
        """Run the graph in a thread, so that Ctrl-C can stop it."""
        openmp_waiting.prepare()  # it is known before the language model's turn what other programs take
        options, session = self._run_options(), self._session
        run = _run_on_host if self.is_on_cpu else _run_on_device
        outcome: dict[str, Any] = {}

        def work() -> None:
            try:
                outcome["rows"] = run(session, feeds, options)
            except Exception as error:  # noqa: BLE001 (handed to the caller)
                outcome["error"] = error

        thread = threading.Thread(target=work, name="aesedge-vision")
        self._running.append(options)
        thread.start()
        try:
            thread.join()
        except BaseException:
            options.terminate = True
            thread.join()
            raise
        finally:
            self._running.remove(options)
        if "error" in outcome:
            raise InferenceError(f"{self.path}: ONNX Runtime stopped: {_one_line(outcome['error'])}")
        self._check_rows(outcome["rows"], feeds)
        return outcome["rows"]

    def _check_rows(self, rows: Any, feeds: dict[str, npt.NDArray[Any]]) -> None:
        """Check that the output has the shape and dtype that the graph declares, and is finite."""
        n = int(feeds[N_INPUT][0]) if N_INPUT in feeds else self.n_image_tokens
        wanted = (len(feeds[INPUT]), n, self.n_embd)
        if not isinstance(rows, np.ndarray) or rows.shape != wanted or rows.dtype != np.float32:
            shape = f"{rows.dtype} {list(rows.shape)}" if isinstance(rows, np.ndarray) else type(rows).__name__
            raise InferenceError(
                f"{self.path}: the vision graph returned {shape} instead of float32 {list(wanted)}; export the "
                "bundle again"
            )
        if not np.isfinite(rows).all():
            raise InferenceError(
                f"{self.path}: the vision graph returned numbers that are not finite; export the bundle again"
            )

    def close(self) -> None:
        """Free the graph; running calls are stopped with an InferenceError. Closing twice does nothing."""
        self._session = None
        for options in list(self._running):
            options.terminate = True


def _run_on_host(session: Any, feeds: dict[str, npt.NDArray[Any]], options: Any) -> Any:
    return session.run([OUTPUT], feeds, options)[0]


def _run_on_device(session: Any, feeds: dict[str, npt.NDArray[Any]], options: Any) -> Any:
    """Run with inputs and output bound to host memory, which is where llama.cpp reads the rows."""
    binding = session.io_binding()
    for name, values in feeds.items():
        binding.bind_cpu_input(name, values)
    binding.bind_output(OUTPUT, "cpu")
    session.run_with_iobinding(binding, options)
    return binding.copy_outputs_to_cpu()[0]


def _one_line(error: Exception) -> str:
    return shortened(" ".join(str(error).split()))
