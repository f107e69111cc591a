"""Why a guest died, for a person: signal, instruction with disassembly, address, and the walk that failed."""

import signal

from quire.arch import PAGE_SIZE, PF_ERROR, Access, Vector
from quire.guest.hints import hint
from quire.guest.kernel.frame import Trap
from quire.guest.kernel.siginfo import GuestDeath, signal_name
from quire.machine import Vcpu
from quire.paging import Status
from quire.paging.explanation import explanation
from quire.report.walk import walk_lines

__all__ = ["disassemble", "obituary", "read_code"]

_LONGEST_INSTRUCTION = 15


def obituary(vcpu: Vcpu, death: GuestDeath, trap: Trap, file: str = "") -> str:
    """Return the lines that say why the guest died; for a fault, with the walk of the faulting address.

    `file` is the path of what is mapped at RIP.
    """
    name = signal_name(death.signo)
    lines = [f"guest killed by {name}: {death.text.removeprefix(f'{name}: ')}"]
    if death.signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        return "\n".join(lines)
    lines.append(f"  at rip {death.rip:#018x}  {disassemble(vcpu, death.rip)}")
    if trap.vector == Vector.UD and death.signo == signal.SIGILL:
        advice = hint(read_code(vcpu, death.rip), file)
        lines.extend([] if advice is None else [f"  {advice}"])
    if trap.vector == Vector.PF and death.signo in (signal.SIGSEGV, signal.SIGBUS):
        access = _access(trap.error_code)
        how = " (EPT is the memory map here)" if vcpu.mmu.shadowed is not None else ""
        lines.append(f"  {access.name.lower()} of gva {trap.address:#018x}, walked level by level{how}:")
        walk = explanation(vcpu.mmu.walk(trap.address, access), vcpu.mmu.guest_context)
        lines.extend("    " + line for line in walk_lines(walk))
    return "\n".join(lines)


def _access(error_code: int) -> Access:
    if PF_ERROR.get(error_code, "ID"):
        return Access.FETCH
    return Access.WRITE if PF_ERROR.get(error_code, "W") else Access.READ


def disassemble(vcpu: Vcpu, rip: int) -> str:
    """Return the instruction at `rip` in Intel syntax, or why it cannot be read."""
    from capstone import CS_ARCH_X86, CS_MODE_64, Cs

    code = read_code(vcpu, rip)
    for _, size, mnemonic, operands in Cs(CS_ARCH_X86, CS_MODE_64).disasm_lite(code, rip, 1):
        return f"{code[:size].hex(' ')}  {mnemonic} {operands}".rstrip()
    return "(no code is mapped there)" if not code else f"{code.hex(' ')}  (not an instruction)"


def read_code(vcpu: Vcpu, rip: int) -> bytes:
    """Return the bytes at `rip`, as many as an instruction may have; fewer where no memory is."""
    code = b""
    memory = vcpu.host.memory
    while len(code) < _LONGEST_INSTRUCTION:
        walk = vcpu.mmu.walk(rip + len(code), Access.READ)
        if walk.status is not Status.OK:
            break
        count = min(_LONGEST_INSTRUCTION - len(code), PAGE_SIZE - walk.hpa % PAGE_SIZE)
        code += memory.read(walk.hpa, count)
    return code
