"""How threads and processes begin and end: clone, execve, exit. Models kernel/fork.c, fs/exec.c and kernel/exit.c.

What is refused is refused before anything is taken; what clone took is given back when a later step fails. A process
that has ended leaves nothing but how it ended, until its parent has asked.
"""

import errno
import os
import signal
from abc import abstractmethod
from contextlib import suppress
from dataclasses import replace
from typing import Self

from quire.guest.kernel.actions import SIG_IGN, SIGNAL_COUNT, AltStack, Dispositions, SigAction
from quire.guest.kernel.clone_flags import Clone
from quire.guest.kernel.frame import Trap
from quire.guest.kernel.group import Image, Process, timers_of
from quire.guest.kernel.options import GuestOptions
from quire.guest.kernel.orphans import tell_orphans
from quire.guest.kernel.partings import has_image, of_others, part
from quire.guest.kernel.siginfo import SI_KERNEL, SI_USER, GuestDeath, SignalInfo
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.thread import Thread
from quire.guest.kernel.usage import Usage
from quire.guest.load.launch import LaunchError, Program
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.uaccess import BadAddress, UserMemory
from quire.guest.syscalls.state import (
    copy_group_state,
    copy_thread_state,
    group_state,
    part_group_state,
    thread_state,
)
from quire.memory import OutOfFrames
from quire.own_descriptors import FIRST_OWN

__all__ = ["Lifecycle"]


class Lifecycle(Thread):
    """Beginning and end of one thread; a part of :class:`quire.guest.kernel.process.ProcessGuest`."""

    options: GuestOptions

    @abstractmethod
    def begin_program(self, image: Image) -> None:
        """Load the program of `image`, and set the registers that it starts with. Raises LaunchError."""

    @abstractmethod
    def watch_memory(self) -> None:
        """Have the address space ask for memory back."""

    def clone(self, flags: Clone, exit_signal: int, stack: int, tls: int, pointers: tuple[int, int]) -> Self:
        """Return a new thread or process, which runs when its turn comes. Raises OSError.

        `flags` are checked. `pointers` are where the parent and the child have the child's number written.
        """
        image = self._image_of_child(flags)
        try:
            process, signals = self._process_of_child(flags, image, exit_signal)
        except BaseException:
            if image is not self.process.image:
                image.space.undo_fork()
            raise
        child = object.__new__(type(self))
        child.options = self.options
        tid = process.pid if process is not self.process else self.kernel.new_number()
        child.join(self.kernel, process, tid, signals)
        signals.mask = self.signals.mask
        if not flags & Clone.VM or flags & Clone.VFORK:
            signals.altstack = self.signals.altstack
        copy_thread_state(self, child)
        thread_state(child).clear_child_tid = pointers[1] if flags & Clone.CHILD_CLEARTID else 0
        child._starts.append(lambda: child._begin(flags, stack, tls, pointers[1]))
        child._saved = self.machine.registers.save()
        if self.rseq is not None and not flags & Clone.VM:
            child.rseq = self.rseq.copy(image.concurrent)
        child.runs = False
        if process is not self.process:
            self.kernel.processes[process.pid] = process
            self.process.children[process.pid] = process
            copy_group_state(self, child, shares=bool(flags & Clone.FILES))
            if image is not self.process.image:
                child.watch_memory()
        if flags & Clone.PARENT_SETTID:
            self._write_number(pointers[0], tid)
        self.kernel.scheduler.add(child)
        return child

    def _image_of_child(self, flags: Clone) -> Image:
        own, room = self.process.image, self.process.image.space.commons.pages
        try:
            if not flags & Clone.THREAD:  # at its end there may be no memory left
                room.with_room(lambda: self.kernel.idle_machine(own.machine))
            if flags & Clone.VM:
                return own
            self.kernel.scheduler.prepare()
            space = room.with_room(lambda: own.space.fork(own.machine.another(self.kernel.new_pcid())))
        except OutOfFrames:
            raise OSError(errno.ENOMEM, "no memory") from None
        return Image(space.machine, space, UserMemory(space.machine, space), own.program, own.bias, own.file)

    def _process_of_child(self, flags: Clone, image: Image, exit_signal: int) -> tuple[Process, Signals]:
        own, kernel = self.process, self.kernel
        if flags & Clone.THREAD:
            return own, Signals(own.signals.actions, own.signals.shared)
        actions = own.signals.actions if flags & Clone.SIGHAND else Dispositions()
        if not flags & Clone.SIGHAND:
            for signo in range(1, SIGNAL_COUNT + 1):
                action = own.signals.actions[signo]
                if not flags & Clone.CLEAR_SIGHAND or action.handler == SIG_IGN:
                    actions[signo] = action
        signals = Signals(actions)
        kernel.scheduler.prepare()
        shares = bool(flags & Clone.FILES)
        seat = own.seat if shares else own.seat.start(lambda: kernel.sit(seat), closes=of_others(kernel, own))
        if shares and image is not own.image:
            image.space.files.separate()
        parent = own.parent if flags & Clone.PARENT else own
        usage = Usage(image.space, kernel.clock.busy)
        made = Process(
            kernel.new_number(),
            parent,
            image,
            seat,
            timers_of(kernel.clock.now, usage, kernel.processes),
            usage,
            own.group,
            own.session,
            own.terminal,
            exit_signal,
            signals=signals,
            borrows=bool(flags & Clone.VFORK),
        )
        seat.processes += 1
        seat.table.processes += 1
        if image is own.image:
            image.users += 1
        return made, signals

    def _begin(self, flags: Clone, stack: int, tls: int, pointer: int) -> None:
        """Be, in the child's own registers and memory, what the parent asked for: before its first instruction."""
        values = {"rax": 0}
        if stack:
            values["rsp"] = stack
        if flags & Clone.SETTLS:
            values["fs_base"] = tls
        self.machine.registers.write_many(values)
        if flags & Clone.CHILD_SETTID:
            self._write_number(pointer, self.tid)

    def _write_number(self, pointer: int, number: int) -> None:
        try:
            self.memory.write_u32(pointer, number)
        except BadAddress:
            pass  # Linux says nothing either

    def parts(self, what: Clone) -> bool:
        """Have descriptors or a working directory of its own; return whether it has them at another seat.

        Raises OSError: ENOMEM for what only threads share, which have one seat.
        """
        process = self.process
        if any(one is not self for one in process.live()):
            raise OSError(errno.ENOMEM, "threads have one seat")
        moves = part(self.kernel, process, what)
        if what & Clone.FILES:
            part_group_state(self)
        return moves

    def execute(self, program: Program) -> bool:
        """Be another program from now on: every other thread has ended, the address space is new.

        Return whether it is to be asked again: the process has another seat, where its descriptors are its own.
        """
        process, old = self.process, self.process.image
        for one in list(process.live()):
            if one is not self:
                one.end_thread()
        with suppress(OSError):
            if self.parts(Clone.FILES):
                return True
        self._replace(program, process, old)
        return False

    def _replace(self, program: Program, process: Process, old: Image) -> None:
        self._take_first_number()
        room = old.space.commons.pages
        try:
            room.with_room(lambda: self.kernel.idle_machine(old.machine))
            machine = room.with_room(lambda: old.machine.another(self.kernel.new_pcid()))
        except OutOfFrames:
            self._kill("no memory is left for its tables")
            return
        space = AddressSpace(machine, self.kernel.rng, layout=old.space.layout, commons=old.space.commons)
        space.no_large = old.space.no_large
        space.stack_limit, space.allowance = old.space.stack_limit, replace(old.space.allowance)
        self.forget_thread_memory()
        process.image = Image(machine, space, UserMemory(machine, space), program)
        machine.load()
        self.watch_memory()
        process.usage.replace(space)
        self._release(old)
        self._reset_for_program()
        try:
            self.begin_program(process.image)
        except LaunchError as error:
            self._kill(str(error))

    def _kill(self, text: str) -> None:
        rip = self.machine.registers.read("rip")
        self.die(GuestDeath(signal.SIGKILL, SI_KERNEL, 0, rip, f"SIGKILL: {text}"))

    def _take_first_number(self) -> None:
        """Be the first thread of the process, as the one that calls execve is."""
        process = self.process
        if self.tid != process.pid:
            self.kernel.leave(self)
            process.threads.pop(self.tid)
            process.usage.rename(self.tid, process.pid)
            self.tid = process.pid
            self.kernel.enter(self)
            process.threads[self.tid] = self
            process.signals = self.signals

    def _reset_for_program(self) -> None:
        """Have signals and descriptors as a new program finds them."""
        old = self.signals.actions
        actions = Dispositions()
        for signo in range(1, SIGNAL_COUNT + 1):
            if old[signo].handler == SIG_IGN:
                actions[signo] = SigAction(SIG_IGN)
        self.signals.actions = actions
        self.signals.altstack = AltStack()
        self.trap = Trap()
        self.rseq = None
        self.process.executed = True
        self.process.timers.made.clear()
        group_state(self).barriers = 0
        self.kernel.ipc.execute(self.process)
        state = thread_state(self)
        state.name, state.robust_list, state.clear_child_tid = None, (0, 24), 0
        for name in os.listdir("/proc/thread-self/fd"):
            number = int(name)
            if number < FIRST_OWN:
                try:
                    if not os.get_inheritable(number):
                        os.close(number)
                except OSError:
                    pass  # that of the listing itself
        self.kernel.terminals.look()
        self._return_memory()

    def _return_memory(self) -> None:
        """Let a parent go on that waits in vfork."""
        if self.process.borrows:
            self.process.borrows = False
            self.process.vfork.wake()

    def _release(self, image: Image) -> None:
        """One process less uses `image`, which is not loaded."""
        image.users -= 1
        if image.users:
            if not has_image(self.kernel, self.process, image):
                image.space.files.close_copies()
            return
        image.space.release()
        if image.machine.vcpu_count > 1:  # another may have kept the tables of what ran there last
            image.machine.leave(self.kernel.idle_machine(image.machine))
        image.machine.close()
        image.space.free_all()

    @abstractmethod
    def forget_thread_memory(self) -> None:
        """Do what the thread's memory is told at its end: its robust locks, its number."""

    def end_thread(self) -> None:
        """End, and leave the process to the others."""
        if self.ended:
            return
        self.forget_thread_memory()
        self.ended, self.runs, self.blocked = True, False, False
        self.rest()
        self.process.usage.leave(self.tid)
        if self.rseq is not None:
            self.rseq.release()
        self.process.meter.join(self.meter)
        self._stop_waiting()
        self._release_slots()
        scheduler = self.kernel.scheduler
        scheduler.remove(self)
        scheduler.forget(self)
        self.kernel.leave(self)
        if self.process.threads.get(self.tid) is self and self.tid != self.process.pid:
            del self.process.threads[self.tid]

    def exit_thread(self, status: int) -> None:
        """End this thread, and the process with the last."""
        if any(one is not self for one in self.process.live()):
            self.end_thread()
        else:
            self.exit_process(status)

    def exit_process(self, status: int) -> None:
        """End the process: exit_group."""
        if not self.process.ended:
            self.process.exit_status = status
            self._end_process()

    def die(self, death: GuestDeath) -> None:
        """End the process by a signal."""
        if not self.process.ended:
            self.process.death = death
            self.kernel.tell_death(self.process, death)
            self._end_process()

    def _end_process(self) -> None:
        process, kernel = self.process, self.kernel
        for one in list(process.live()):
            one.end_thread()
        kernel.history.note(process)
        kernel.history.weigh(kernel.with_memory(process))
        if process is kernel.first:  # whose memory and registers are looked at when all has ended
            if any(True for _ in kernel.live()):
                self._saved = self.machine.registers.save()
                self._close_descriptors()
        else:
            self._close_descriptors()
            kernel.idle_machine(process.image.machine).load()
            self._release(process.image)
        kernel.terminals.look()
        kernel.terminals.leave(process)
        self._return_memory()
        kernel.ipc.leave(process)
        children = list(process.children.values())
        self._give_children_away()
        tell_orphans(kernel, process, children)
        process.seat.processes -= 1
        process.seat.table.processes -= 1
        process.seat.over = not process.seat.processes and process.seat is not kernel.first_seat
        kernel.tell_end(process)

    def _close_descriptors(self) -> None:
        if self.process.seat.table.processes == 1:
            os.closerange(0, FIRST_OWN)

    def _give_children_away(self) -> None:
        """Have an ancestor that adopts, or Quire, be the parent of those that this process leaves."""
        heir = self.process.parent
        while heir is not None and (heir.ended or not heir.subreaper):
            heir = heir.parent
        for child in list(self.process.children.values()):
            child.parent = heir
            for one in child.live():
                signo = thread_state(one).death_signal
                if signo:
                    self.kernel.send_thread(one, SignalInfo(signo, SI_USER, pid=self.process.pid))
            if heir is not None:
                heir.children[child.pid] = child
                if child.ended:
                    self.kernel.tell_end(child)
            elif child.ended:
                self.kernel.bury(child)
        self.process.children.clear()
