"""Estimate how much memory a plan takes, part by part, before anything is loaded.

The constants are measured (Linux, ONNX Runtime 1.32, llama-cpp-python 0.3.36): the resident size in
``/proc/self/status`` of a process that does one more thing at a time and loads a graph in a thread, as the engine does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.config.memory.weights_and_kv_cache import language_memory
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.llm.prompt import prompt_template

if TYPE_CHECKING:
    from aesedge.bundle.bundle import Bundle
    from aesedge.config.plan import Plan

_MIB = 1 << 20
PROCESS_BYTES = 80 * _MIB
"""Interpreter, libraries and empty sessions of both runtimes: 66 MiB with everything imported, 13 for a session."""
# A graph's weights, in sizes of its file: once loaded (with what was freed given back, see `give_back_freed`), and the
# most while it loads. A CPU computes fp16 graphs in float32.
_FP16_GRAPH, _GRAPH = (2.0, 3.65), (1.0, 1.8)
# Running CLIP ViT-L/14-336 takes 48 MiB in fp32 and 52 in int8; its output takes 9.
_RUN_BYTES, _RUN_OUTPUTS = 5 * _MIB, 5
_BYTES_PER_VALUE = 4  # of the photo that is worked on; embeddings of others are kept in what is left


@dataclass(frozen=True)
class MemoryEstimate:
    """What a plan takes, in bytes."""

    plan: Plan
    n_ctx: int
    """Cells of the KV cache."""
    gpu_layers: int
    """Layers that go to GPUs, -1 for all."""
    parts: dict[str, int]
    """What must be in RAM."""
    gpu_parts: dict[str, int]
    """What must be on GPUs; empty where none is used."""
    reclaimable_bytes: int
    """Pages of the GGUF file that were copied elsewhere and stay mapped, but are not read."""
    shortest_ctx: int
    """Cells that the text before the image, the image and a short question take."""

    @property
    def needed_bytes(self) -> int:
        """RAM in all."""
        return sum(self.parts.values())

    @property
    def peak_bytes(self) -> int:
        """Largest resident size of the process, where memory is not short."""
        return self.needed_bytes + self.reclaimable_bytes

    @property
    def gpu_bytes(self) -> int:
        """GPU memory in all."""
        return sum(self.gpu_parts.values())


def estimate(bundle: Bundle, plan: Plan, *, process_bytes: int = PROCESS_BYTES) -> MemoryEstimate:
    """Add up what a plan takes; opens the GGUF file's header in llama.cpp, in about 0.1 s at 7B.

    Args:
        bundle: the manifest and its files.
        plan: how they are loaded.
        process_bytes: what the process takes without them.

    Raises:
        BundleNotFoundError: the bundle has no such type.
        ModelLoadError: llama.cpp refuses the GGUF file or the settings.
        ProviderError: a GPU was asked for that is not there.
    """
    tower, tower_loading = _tower(bundle, plan)
    tower_on_gpu = plan.device != "cpu" and bool(gpu_devices())
    llm = language_memory(
        bundle.unread_path("llm", plan.gguf),
        plan,
        prompt_template(bundle.manifest.prompt.template).before_image,
        reserved_bytes=sum(tower.values()) if tower_on_gpu else 0,
    )
    n_values = plan.n_image_tokens * bundle.manifest.n_embd
    parts = {"process": process_bytes, **llm.in_ram, **tower, "image embeddings": n_values * _BYTES_PER_VALUE}
    reclaimable = llm.reclaimable
    # While it loads there is no context yet, but the whole file is mapped and the graph is there nearly twice.
    more = process_bytes + llm.loaded + tower_loading - sum(parts.values())
    if more > 0:
        parts["only while loading"] = more
        reclaimable = max(reclaimable, llm.n_file - llm.in_ram.get("weights", 0))
    return MemoryEstimate(
        plan=plan,
        n_ctx=llm.n_ctx,
        gpu_layers=llm.gpu_layers,
        parts=parts,
        gpu_parts=llm.on_gpu | (tower if tower_on_gpu else {}),
        reclaimable_bytes=reclaimable,
        shortest_ctx=llm.shortest_ctx,
    )


def _tower(bundle: Bundle, plan: Plan) -> tuple[dict[str, int], int]:
    """Return what the vision tower takes, and the most that it takes while it loads."""
    n_file = bundle.unread_path("vision", plan.vision).stat().st_size
    loaded, loading = _FP16_GRAPH if plan.vision.lower() == "fp16" else _GRAPH
    n_output = bundle.manifest.image_tokens.max * bundle.manifest.n_embd * 4
    running = _RUN_BYTES + _RUN_OUTPUTS * n_output
    return {"vision tower": int(loaded * n_file), "vision tower at work": running}, int(loading * n_file)
