"""Workers for long commands: objects in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from multiprocessing import active_children, get_context
from multiprocessing.managers import BaseManager
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import ConfigError, EomtExtError, InferenceError
from eomt_ext_core.exits import describe_exit

_END_TIMEOUT_S = 5.0
_CONCURRENT_CALLS = 4


class Worker(Protocol):
    """An object that works elsewhere: made there without arguments, and called from several threads."""

    def close(self) -> None:
        """Free what the worker holds; called at the end."""


class Handle(Protocol):
    """A worker seen from here."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker and wait for its result.

        Raises ``InferenceError`` if the worker has ended, and whatever the method raises.
        """


@contextmanager
def open_workers(
    kind: type[Worker], number: int | None, ray_address: str | None = None, *, threads: int = 1, on_gpu: bool = True
) -> Iterator[list[Handle]]:
    """Start workers, and close them at the end of the block.

    Args:
        kind: class of the workers, at the top level of a module.
        number: of workers; a single one without Ray works in this process. None: as many as fit on the Ray cluster.
        ray_address: address of a Ray cluster, ``auto`` for a running one, ``local`` for one on this machine; None for
            processes of this machine.
        threads: CPU cores that each worker takes on a Ray cluster.
        on_gpu: whether each worker takes a GPU of the Ray cluster, if there are enough.

    Raises:
        ConfigError: if a Ray address is given and Ray is not installed.
    """
    with ExitStack() as stack:
        if ray_address is not None:
            handles = stack.enter_context(_ray_handles(kind, number, ray_address, threads, on_gpu))
        elif number == 1:
            handles = [_LocalHandle(kind())]
        else:
            handles = [stack.enter_context(_process_handle(kind)) for _ in range(number or 1)]
        try:
            yield handles
        finally:
            for handle in handles:
                with suppress(EomtExtError):
                    handle.call("close")


def engine_of_worker(config: EngineConfig, worker: int) -> EngineConfig:
    """Spread the workers over the GPUs of the machine, unless the device is given."""
    import torch

    num_gpus = torch.cuda.device_count() if config.device == "auto" else 0
    return replace(config, device=f"cuda:{worker % num_gpus}") if num_gpus else config


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Let torch compute with a number of CPU threads in a block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _LocalHandle:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._worker, method)(*arguments)


class _Manager(BaseManager):
    """A process of this machine that holds a worker, with a thread for each caller."""


class _ProcessHandle:
    def __init__(self, worker: Any, process: BaseProcess) -> None:
        self._worker, self._process = worker, process

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._worker, method)(*arguments)
        except (EOFError, ConnectionError) as error:
            self._process.join(_END_TIMEOUT_S)
            raise InferenceError(
                f"a worker process {describe_exit(self._process.exitcode)}; the results of its frames are lost"
            ) from error


@contextmanager
def _process_handle(kind: type[Worker]) -> Iterator[Handle]:
    context = get_context("forkserver")  # CUDA does not survive a fork; the server only imports torch, once for all
    context.set_forkserver_preload([kind.__module__, "torch"])
    _Manager.register("worker", kind)
    others = set(active_children())
    with _Manager(ctx=context) as manager:
        (process,) = set(active_children()) - others
        yield _ProcessHandle(manager.worker(), process)  # type: ignore[attr-defined]  # registered above


class _RayHandle:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            return self._ray.get(getattr(self._actor, method).remote(*arguments))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayActorError as error:
            raise InferenceError(f"a worker of the Ray cluster ended unexpectedly: {error}") from error


@contextmanager
def _ray_handles(
    kind: type[Worker], number: int | None, address: str, threads: int, on_gpu: bool
) -> Iterator[list[Handle]]:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"a Ray address needs Ray: install the extra 'ray' ({error})") from error
    settings: dict[str, Any] = {"num_cpus": number * threads} if address == "local" and number else {}
    ray.init(address=address, log_to_driver=False, include_dashboard=False, **settings)
    try:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if on_gpu else 0
        fitting = max(1, min(int(resources.get("CPU", 0)) // threads, gpus or 1 << 30))
        number = number or fitting
        remote = ray.remote(num_cpus=threads, num_gpus=int(gpus >= number), max_concurrency=_CONCURRENT_CALLS)(kind)
        yield [_RayHandle(ray, remote.remote()) for _ in range(number)]
    finally:
        ray.shutdown()
