"""How a network is run: plain PyTorch, which is the reference, or something faster that says the same."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import nn

from triage.domain.errors import Misconfigured

Run = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
"""(n, 1, side, side) float32 to every output of the network, each (n, ...) float32 on the processor."""


@dataclass(frozen=True)
class Tolerance:
    """
    How far any runtime may lie from plain fp32 on the same radiograph.

    bf16 misses it, which is why no processor runs it: on 64 radiographs of development fold 0 it moved a probability
    by up to 0.16, the gate score by up to a quarter and a mask down to Dice 0.97 (PyTorch and OpenVINO alike), where
    OpenVINO in fp32 stays within 0.0006, 0.0024 and 0.9999. The crop and its equalisation enlarge a mask's differences.

    Attributes:
        probability: of each class.
        dice: least agreement of two lung masks.
        gate_score: as a share of the reference's.
    """

    probability: float = 2e-3
    dice: float = 0.999
    gate_score: float = 1e-2


TOLERANCE = Tolerance()
NAMES = ("torch", "openvino", "cuda", "cuda-bf16")
BUCKETS = (1, 2, 4, 8, 16)
"""Batch sizes for which a CUDA graph is captured; a batch is filled up to the next."""


def chosen(name: str = "auto") -> str:
    """
    One of `NAMES`; 'auto' is CUDA where there is a GPU, else what is fastest on a processor (benchmarks/README.md).

    Raises:
        Misconfigured: not a runtime, or not to be had here.
    """
    has = {"torch": True, "openvino": find_spec("openvino") is not None}
    has["cuda"] = has["cuda-bf16"] = torch.cuda.is_available()
    if name == "auto":
        return next(n for n in ("cuda", "openvino", "torch") if has[n])
    if not has.get(name):
        raise Misconfigured(f"runtime {name!r} is not to be had here; there is {', '.join(n for n in has if has[n])}")
    return name


def prepared(net: nn.Module, side: int, runtime: str, threads: int | None = None) -> Run:
    """
    *net*, ready to be called from any thread.

    Args:
        net: trained, takes (n, 1, side, side); gives a tensor or a tuple of tensors.
        runtime: one of `NAMES`.
        threads: of the processor; by default as many as PyTorch uses.
    """
    net = net.eval().requires_grad_(False)
    if runtime == "openvino":
        return _OpenVino(net, side, threads or torch.get_num_threads())
    if runtime.startswith("cuda"):
        return _CudaGraphs(net, side, is_half=runtime == "cuda-bf16")
    return _torch(net)


def _torch(net: nn.Module) -> Run:
    net = net.to(memory_format=torch.channels_last)

    def run(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            return _several(net(images.contiguous(memory_format=torch.channels_last)))

    return run


class _OpenVino:
    """
    Converted in memory, fp32; every image alone on one thread, as many at a time as there are threads.

    So an image's result depends neither on its neighbours in the batch nor on the number of threads, to the last bit;
    and it is faster than batches that share the threads (benchmarks/README.md).
    """

    def __init__(self, net: nn.Module, side: int, threads: int) -> None:
        openvino = _openvino()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what tracing says of Python numbers that it takes for constants
            model = openvino.convert_model(net, example_input=torch.zeros(1, 1, side, side), input=[(1, 1, side, side)])
        plan = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": str(threads)}
        plan["ENABLE_CPU_PINNING"] = False  # several workers of a machine would be pinned to the same cores
        compiled = openvino.Core().compile_model(model, "CPU", plan)
        self._outputs = len(compiled.outputs)
        self._queue = openvino.AsyncInferQueue(compiled, threads)
        self._queue.set_callback(self._keep)
        self._lock = Lock()

    def _keep(self, request: Any, place: tuple[int, list[list[torch.Tensor]]]) -> None:
        number, results = place
        results[number] = [torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in range(self._outputs)]

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results: list[list[torch.Tensor]] = [[] for _ in range(len(images))]
        with self._lock:
            for number, image in enumerate(np.ascontiguousarray(images.numpy())):
                self._queue.start_async([image[None]], (number, results))
            self._queue.wait_all()
        return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def _openvino() -> Any:
    """OpenVINO without its telemetry: on import it would report to its maker, and this may run beside patients."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # its import now fails, as foreseen
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import openvino  # type: ignore[import-untyped]
    return openvino


class _CudaGraphs:
    """
    On the GPU, channels-last, one captured graph for each of `BUCKETS`; made without a GPU at hand and not yet run.

    'cuda' keeps fp32 (TF32 off) and with it the card's figures; 'cuda-bf16' is faster and, if the GPU rounds as the
    processor does, outside `TOLERANCE`: for a site that measures its weights with it.
    """

    def __init__(self, net: nn.Module, side: int, *, is_half: bool) -> None:
        self._net = copy.deepcopy(net).to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._is_half = is_half
        self._lock = Lock()
        self._captured = {size: self._capture(size, side) for size in BUCKETS}

    def _capture(self, size: int, side: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, tuple[torch.Tensor, ...]]:
        """The graph, where it reads and where it writes."""
        images = torch.zeros(size, 1, side, side, device="cuda").contiguous(memory_format=torch.channels_last)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # cuDNN chooses and allocates before anything is captured
            for _ in range(3):
                self._forward(images)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._forward(images)
        return graph, images, outputs

    def _forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        half = torch.autocast("cuda", torch.bfloat16, enabled=self._is_half, cache_enabled=False)
        with torch.no_grad(), exact, half:
            return tuple(output.float() for output in _several(self._net(images)))

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = []
        with self._lock:
            for first in range(0, len(images), BUCKETS[-1]):
                some = images[first : first + BUCKETS[-1]]
                graph, source, outputs = self._captured[next(b for b in BUCKETS if b >= len(some))]
                source[: len(some)].copy_(some)
                graph.replay()
                parts.append([output[: len(some)].cpu() for output in outputs])
        return tuple(torch.cat(several) for several in zip(*parts, strict=True))


def _several(output: torch.Tensor | Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return (output,) if isinstance(output, torch.Tensor) else tuple(output)
