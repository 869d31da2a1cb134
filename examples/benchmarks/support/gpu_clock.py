"""Clocks for what a GPU does: from an empty stream to an empty one, and with launches out of the way."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from kalmandp.engines.cuda.launch import Functions

#: Keeps the device busy for so many nanoseconds while the host puts work behind it.
SPIN = """
__device__ unsigned long long now() {
  unsigned long long t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}
extern "C" __global__ void spin(unsigned long long nanoseconds) {
  const unsigned long long begin = now();
  while (now() - begin < nanoseconds) {}
}"""


class GpuClock:
    """Time on the current CUDA device, in the current stream."""

    def __init__(self, xp: Any):
        self.xp = xp
        self._spin = xp.RawKernel(SPIN, "spin")

    def synchronize(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def event(self):
        return self.xp.cuda.Event()

    def milliseconds(self, begin, end) -> float:
        return self.xp.cuda.get_elapsed_time(begin, end)

    def busy(self, seconds: float) -> None:
        """Give the device something to do for so long."""
        self._spin((1,), (1,), (np.uint64(1e9 * seconds),))

    def name(self) -> str:
        return self.xp.cuda.runtime.getDeviceProperties(self.xp.cuda.Device().id)["name"].decode()


class HostClock(GpuClock):
    """The same for a device that the host plays: nothing is ever under way."""

    def __init__(self, xp: Any):
        self.xp = xp

    def synchronize(self) -> None:
        pass

    def event(self):
        return HostEvent()

    def milliseconds(self, begin, end) -> float:
        return 1e3 * (end.time - begin.time)

    def busy(self, seconds: float) -> None:
        pass

    def name(self) -> str:
        return "no GPU, kernels run by the host"


class HostEvent:
    """When it was recorded, on the host."""

    time = 0.0

    def record(self) -> None:
        self.time = time.perf_counter()


def seconds_of(clock: GpuClock, run: Callable[[], object], count: int, rounds: int) -> float:
    """Median seconds of one of ``count`` calls of ``run``, after one round that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        clock.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            run()
        clock.synchronize()
        seconds.append((time.perf_counter() - began) / count)
    return float(np.median(seconds[1:]))


def host_and_device(clock: GpuClock, run: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Seconds that the host takes to launch what ``run`` enqueues, and the device to do it.

    The device is kept busy until everything is in the stream, so that there are no gaps in what it then
    takes. ``run`` must not wait for the device, nor launch more than a stream holds (about a thousand).
    """
    ahead = 2 * seconds_of(clock, run, 1, 2) + 0.005
    host, device = [], []
    for _ in range(rounds):
        clock.synchronize()
        clock.busy(ahead)
        begin, end = clock.event(), clock.event()
        began = time.perf_counter()
        begin.record()
        run()
        end.record()
        host.append(time.perf_counter() - began)
        clock.synchronize()
        device.append(clock.milliseconds(begin, end) / 1e3)
    return float(np.median(host)), float(np.median(device))


class TimedDevice:
    """A device that notes the time of every kernel of ours, by events in the stream."""

    def __init__(self, device, clock: GpuClock):
        self.device, self.xp, self.clock = device, device.xp, clock
        self.events: list[tuple] = []

    def free_bytes(self) -> int:
        return self.device.free_bytes()

    def functions(self, file: str, **constants) -> Functions:
        inner = self.device.functions(file, **constants)

        def launcher(name: str):
            kernel = getattr(inner, name)

            def launch(grid, block, arguments):
                begin, end = self.clock.event(), self.clock.event()
                begin.record()
                kernel(grid, block, *arguments)
                end.record()
                self.events.append((f"{file}: {name}", begin, end))

            return launch

        return Functions(launcher, inner.forms)

    def milliseconds(self) -> dict[str, list[float]]:
        """The times of each kernel since this was last asked."""
        self.clock.synchronize()
        out = defaultdict(list)
        for name, begin, end in self.events:
            out[name].append(self.clock.milliseconds(begin, end))
        self.events.clear()
        return out
