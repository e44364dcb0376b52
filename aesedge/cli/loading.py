"""From options to a loaded model and ways of writing; knows the command line and the engine, prints a bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aesedge.cli.options import Loading, WritingOptions, gpu_layers
from aesedge.cli.terminal import status

if TYPE_CHECKING:
    from aesedge.engine import Model
    from aesedge.reply import Writing


def load_model(loading: Loading, *, quiet: bool) -> Model:
    """Load what the options ask for, with a progress bar.

    Raises:
        AesedgeError: see :class:`aesedge.engine.Model`.
    """
    from aesedge.engine import open_model

    options: dict[str, Any] = {k: v for k, v in vars(loading).items() if k != "bundle"}
    options["device"] = loading.device.value
    options["gpu_layers"] = gpu_layers(loading.gpu_layers)
    with status(f"loading {loading.bundle}", quiet=quiet) as show:
        return open_model(loading.bundle, progress=show, **options)


def writing(options: WritingOptions) -> Writing:
    """Return how text is to be written.

    Raises:
        UsageError: a value is out of its range.
    """
    from aesedge.llm import Sampling
    from aesedge.reply import Writing

    sampling = Sampling(temperature=options.temperature, seed=options.seed)
    return Writing(sampling=sampling, max_tokens=options.max_tokens)
