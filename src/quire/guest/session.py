"""One run of one program: the machine, the guest's kernel, and what comes from outside while it runs.

What :meth:`Session.run` leaves is described in :mod:`quire.guest.run_record`.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

from quire.arch import HWCAP
from quire.cpu import make_cpu
from quire.errors import CANNOT_SET_UP, BackendError, MisuseError
from quire.exits import GuestStopped
from quire.guest.enclosure import enclose
from quire.guest.hints import hint
from quire.guest.host_signals import HostSignals
from quire.guest.host_terminal import HostTerminal
from quire.guest.inherited import Inherited
from quire.guest.kernel.group import Process
from quire.guest.kernel.options import GuestOptions
from quire.guest.kernel.process import ProcessGuest
from quire.guest.kernel.processors import Processors
from quire.guest.kernel.siginfo import GuestDeath
from quire.guest.kernel.virtual_machine import VirtualMachine
from quire.guest.load.launch import LaunchError, Program
from quire.guest.mm.commons import LargePages
from quire.guest.obituary import obituary, read_code
from quire.guest.own_process import freeze_loaded
from quire.guest.point import Point, parse_point
from quire.guest.region import Region, since
from quire.guest.run_record import run_record
from quire.guest.run_spec import RunSpec
from quire.guest.sampler import Sampler
from quire.guest.seats import Seats
from quire.guest.syscalls.ids import restore
from quire.machine import Machine, Vcpu
from quire.memory import OutOfFrames
from quire.observe import HostAudit, audit_host
from quire.own_descriptors import empty
from quire.state.images.save import save_image
from quire.tlb import Tlb
from quire.vcpu import counting, sliced, why_slow

__all__ = ["Session", "open_session"]


class Session:
    """Runs `program` once, as `spec` says. Make it, :meth:`run` it, read :attr:`record` and :attr:`status`.

    `image` is a file that gets the guest's memory and registers when it has ended, and EPT `with_ept`. `region` is the
    part of the run that counts; if it ends before the program does, the status is 0. `look` sees the guest then, before
    it is gone. `say` gets lines for people while the guest runs.
    """

    def __init__(
        self,
        program: Program,
        environ: Mapping[bytes, bytes],
        spec: RunSpec,
        *,
        image: BinaryIO | None = None,
        with_ept: bool = False,
        region: Region | None = None,
        look: Callable[[Vcpu, ProcessGuest], None] | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.spec = spec
        self.program = program
        self._image, self._with_ept = image, with_ept
        self._say = say
        self.region = Region(None, None) if region is None else region
        self._look = look
        self.status = CANNOT_SET_UP
        self.death_text: str | None = None
        self.image_error: str | None = None  #: why the image could not be written
        self.walls: list[str] = []  #: around a sandboxed guest: those that stood
        self._before: dict[str, Any] | None = None  # what had been counted when the region began
        self.tlb: Tlb  #: TLBs and walk caches of the vCPU, from :meth:`run` on, and after it
        self.record: dict[str, Any] = {}
        self.audits: list[HostAudit] = []  #: of the host: after every so many system calls, and at the end
        self._environ = environ
        self._advised: set[str] = set()
        self._started = time.perf_counter()
        self._interrupted: int | None = None

    def run(self) -> int:
        """Run the program to its end; return the exit status for Quire: its own, or 128 + the signal.

        Raises LaunchError when it cannot be started.
        """
        options = self.spec
        machine = _make(options)
        self.tlb = machine.vcpu.tlb
        try:
            self._check_engines(machine)
            processors = Processors(machine.vcpus)
            guest = ProcessGuest(
                VirtualMachine(processors),
                self.program,
                self._environ,
                GuestOptions(
                    options.seed,
                    options.sandbox,
                    os.getcwd(),
                    HWCAP,
                    host_clock=options.clock == "host",
                    root=options.root,
                    schedule=options.schedule,
                    large=None if options.thp is None else LargePages(options.thp),
                ),
            )
            try:
                terminal = HostTerminal.find()
                with Inherited(guest), nullcontext() if terminal is None else terminal:
                    if terminal is not None:
                        guest.kernel.terminals.adopt(terminal, guest.process)
                    processors.is_busy = guest.kernel.scheduler.is_busy
                    self._run(machine, guest, processors)
            finally:
                guest.abandon()
        finally:
            machine.discard()
        return self.status

    def _run(self, machine: Machine, guest: ProcessGuest, processors: Processors) -> None:
        cpu = machine.vcpu.cpu
        guest.kernel.tell_lack = self._tell_lack
        guest.kernel.tell_death = lambda process, death: self._tell_death(
            processors.current, guest, process, death
        )
        guest.start()
        if self.spec.sandbox:
            self.walls = enclose(guest, self.spec.readable)
        running = time.perf_counter()
        stopped: str | None = None
        with (
            HostSignals(processors.interrupt) as signals,
            _sampler(machine, self.spec.working_set, processors.interrupt) as sampler,
        ):
            guest.signals.inherit(signals.mask_before, signals.ignored_before)
            guest.kernel.outside = signals
            seats = Seats(machine.vcpus, guest.kernel, self.region, sampler)
            self.region.begin(guest, cpu, lambda: self._begin_region(processors, guest))
            if self.spec.audit_every is not None:
                seats.audit_after(self.spec.audit_every, lambda: self._audit(machine))
            try:
                seats.run()
            except GuestStopped as end:
                stopped = str(end)
            except OutOfFrames as end:
                stopped = f"host memory exhausted: {end}"
            finally:
                self.region.finish()
                restore(guest)
        ended = time.perf_counter()
        if self.spec.audit_every is not None:
            self._audit(machine)
        self.status = 0 if self.region.ended else _status(guest, stopped)
        death = guest.death
        if stopped is not None:
            rip = processors.current.cpu.registers.read("rip")
            death = GuestDeath(signal.SIGKILL, 0, 0, rip, stopped)
            self._tell_death(processors.current, guest, guest.process, death)
        guest.come_back()
        if self._image is not None:
            self._save_image(processors.current, self._image, guest.trap.address)
        if self._look is not None:
            self._look(processors.current, guest)
        times = {
            "wall_seconds": ended - self._started,
            "setup_seconds": running - self._started,
            "guest_seconds": ended - running,
        }
        whole = run_record(
            self.program,
            self.spec,
            processors,
            guest,
            (self.status, death),
            sampler,
            times,
            self.walls,
            self._said(),
        )
        self.record = whole if self._before is None else since(self._before, whole)

    def _said(self) -> dict[str, Any] | None:
        """Return what the record says of the region; None where the whole run counts."""
        if not self.region.points:
            return None
        start, end = self.region.start, self.region.end
        return {
            "from": None if start is None else start.text,
            "to": None if end is None else end.text,
            "started": self.region.started,
            "ended": self.region.ended,
        }

    def _begin_region(self, processors: Processors, guest: ProcessGuest) -> None:
        """Note what was counted before the region."""
        self._before = run_record(self.program, self.spec, processors, guest, (0, None), None, {})

    def _tell_death(self, vcpu: Vcpu, guest: ProcessGuest, process: Process, death: GuestDeath) -> None:
        """Say how the first process died, while its memory and registers are there; of another, what would help it."""
        area = process.image.space.areas.find(death.rip)
        file = "" if area is None or area.backing is None else os.fsdecode(area.backing.name)
        if process is not guest.process:
            advice = hint(read_code(vcpu, death.rip), file) if death.signo == signal.SIGILL else None
            if advice is not None and advice not in self._advised:
                self._advised.add(advice)
                self._say(advice)
        elif death.signo != signal.SIGPIPE:  # nobody reads on: shells say nothing either
            self.death_text = obituary(vcpu, death, guest.trap, file)

    def _tell_lack(self, name: str) -> None:
        self._say(f"the guest asked for {name}, which Quire lacks; it was told ENOSYS")

    def _check_engines(self, machine: Machine) -> None:
        """Raise LaunchError if the engines cannot do what this run needs of them: before the guest begins."""
        cpu = machine.vcpu.cpu
        try:
            counting(cpu)
            if len(machine.vcpus) > 1:
                sliced(cpu)
            for point in self.region.points:
                point.check(cpu)
                if len(machine.vcpus) > 1 and point.at_instruction:
                    raise MisuseError(
                        f"{point.text!r} is an instruction, where {len(machine.vcpus)} vCPUs do not stop together: "
                        "give --vcpus 1, or a number of system calls"
                    )
        except MisuseError as error:
            raise LaunchError(CANNOT_SET_UP, f"cannot set the guest up: {error}") from error
        if (why := why_slow(cpu)) is not None:
            self._say(f"accesses are counted by hooks, which takes five times as long: {why}")

    def _audit(self, machine: Machine) -> None:
        self.audits.append(audit_host(machine.host, [machine]))

    def _save_image(self, vcpu: Vcpu, image: BinaryIO, cr2: int) -> None:
        try:
            with image:
                empty(image.fileno())
                save_image(vcpu, image, cr2=cr2, with_ept=self._with_ept)
        except OSError as error:
            self.image_error = error.strerror or str(error)


def open_session(
    spec: RunSpec,
    environ: Mapping[bytes, bytes],
    *,
    image: BinaryIO | None = None,
    with_ept: bool = False,
    until: Callable[[Program], Point | None] = lambda program: None,
    look: Callable[[Vcpu, ProcessGuest], None] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Session:
    """Return the run that `spec` describes, of the program that its command names; `until` may say where it ends.

    `image`, `with_ept`, `look` and `say` are those of :class:`Session`. Raises LaunchError.
    """
    try:
        program = spec.program()
    except OSError as error:
        what = f"the working directory is gone: {error.strerror}; cd to another"
        raise LaunchError(CANNOT_SET_UP, what) from None
    freeze_loaded()
    try:
        start = None if spec.start is None else parse_point(spec.start, program)
        end = until(program) or (None if spec.end is None else parse_point(spec.end, program))
    except MisuseError as error:
        raise LaunchError(CANNOT_SET_UP, str(error)) from error
    region = Region(start, end)
    return Session(
        program,
        spec.environ(environ),
        spec,
        image=image,
        with_ept=with_ept,
        region=region,
        look=look,
        say=say,
    )


def _make(options: RunSpec) -> Machine:
    try:
        return Machine(options.config, make_cpu(options.engine, options.detail))
    except (BackendError, MisuseError, OutOfFrames) as error:
        raise LaunchError(CANNOT_SET_UP, f"cannot set the guest up: {error}") from error


def _sampler(
    machine: Machine, period: float | None, interrupt: Callable[[], None]
) -> AbstractContextManager[Sampler | None]:
    """Return what samples the guest's working set while it runs, or nothing."""
    return nullcontext() if period is None else Sampler(machine, period, interrupt)


def _status(guest: ProcessGuest, stopped: str | None) -> int:
    if guest.exit_status is not None:
        return guest.exit_status
    if stopped is not None or guest.death is None:
        return 128 + signal.SIGKILL
    return 128 + guest.death.signo
