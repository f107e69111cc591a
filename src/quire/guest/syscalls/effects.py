"""What a system call may change outside its guest: the table by which a sandbox decides, and by which it is documented.

Each call, and each command of fcntl, ioctl and prctl, is declared with one of these. What is declared with none is
refused: a sandbox allows what somebody looked at, and nothing else.
"""

from enum import Enum

__all__ = ["ARGUMENT", "REFUSED", "Effect"]


class Effect(Enum):
    """What a call may change or read outside the guest. The value says what a sandbox makes of it."""

    #: Memory, records and descriptors of the guest, and what the host tells everybody.
    GUEST = "allowed: it reaches nothing but the guest"
    #: Reads what the descriptor in argument 0 names.
    INPUT = "allowed, but for an inherited descriptor above 2 that the guest would share with others: EACCES"
    #: Reads files or their attributes by name.
    READS = "allowed; with --allow-read only below what it names: EACCES"
    #: The open file that the descriptor in argument 0 names: its position, its flags.
    DESCRIPTION = "allowed for what the guest opened and for descriptors 0 to 2, else EPERM"
    #: What the descriptor in argument 0 (or 1, or 2) names.
    OUTPUT = "allowed for standard output and error, the guest's own channels, terminals and null devices, else EACCES"
    OUTPUT_1 = "as output, of argument 1"
    OUTPUT_2 = "as output, of argument 2"
    #: Memory of the host behind the descriptor in argument 0, or limits and seals of it.
    CHANNEL = "allowed for the guest's own channels, within --memory, else EPERM"
    #: Names and attributes in the file system.
    FILES = "refused: EACCES"
    #: The network, the terminal's owner, and other processes.
    OTHERS = "refused: EPERM"
    #: A file lock, which would keep others out.
    LOCKS = "answered with success and kept from the host"
    #: What the host should read early, write soon or forget.
    HINT = "answered with success and kept from the host "
    #: What it changes depends on its arguments: the handler decides, command by command.
    CHOOSES = "decided by what it asks for"
    #: Nobody has said what it does.
    UNKNOWN = "refused: EPERM "

    @property
    def words(self) -> str:
        """What a sandbox makes of it, for the documentation."""
        return self.value.strip()


#: The argument whose descriptor an effect is about.
ARGUMENT = {
    Effect.INPUT: 0,
    Effect.DESCRIPTION: 0,
    Effect.CHANNEL: 0,
    Effect.OUTPUT: 0,
    Effect.OUTPUT_1: 1,
    Effect.OUTPUT_2: 2,
}
#: What a sandbox always refuses: no such call of Quire's process is the guest's either.
REFUSED = frozenset((Effect.FILES, Effect.OTHERS, Effect.UNKNOWN))
