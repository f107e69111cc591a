"""What a system call may change outside its guest: the table by which a sandbox decides, and by which it is documented.

Each call, and each command of fcntl, ioctl and prctl, is declared with one of these. What is declared with none is
refused: a sandbox allows what somebody looked at, and nothing else.
"""

from enum import Enum

__all__ = ["KEPT_FROM_THE_HOST", "PARTS", "REFUSED", "Effect"]


class Effect(Enum):
    """What a call may change or read outside the guest. The value says what a sandbox makes of it."""

    #: Memory, records and descriptors of the guest, and what the host tells everybody.
    GUEST = "allowed: it reaches nothing but the guest"
    #: What Quire plays by itself: tasks, signals and the time of the guest.
    PLAYED = "allowed: the host hears nothing of it"
    #: Reads what the descriptor in argument 0 names.
    INPUT = "allowed, but for an inherited descriptor above 2 that the guest would share with others: EACCES"
    #: Reads files or their attributes by name.
    READS = "allowed; with --allow-read only below what it names: EACCES"
    #: The open file that the descriptor in argument 0 names: its position, its flags, what it waits for.
    DESCRIPTION = "allowed for what the guest opened and for descriptors 0 to 2, else EPERM"
    #: What is watched, by the description in argument 0.
    WATCHES = "as reads, and as description"
    #: What the descriptor in argument 0 names.
    OUTPUT = "allowed for standard output and error, the guest's own channels, terminals and null devices, else EACCES"
    #: Bytes that go from one descriptor to another, and are gone from a pipe or a socket.
    SENDS = "as output, and as input of argument 1"
    TEES = "as output of argument 1, and as input"
    COPIES = "as output of argument 2, and as input"
    #: Memory of the host behind the descriptor in argument 0, or limits and seals of it.
    CHANNEL = "allowed for the guest's own channels, within --memory, else EPERM"
    #: Names and attributes in the file system.
    FILES = "refused: EACCES"
    #: The network, the terminal's owner, and other processes.
    OTHERS = "refused: EPERM"
    #: A file lock, which would keep others out.
    LOCKS = "answered with success and kept from the host"
    #: What the host should read early, write soon or forget.
    HINT = "answered with success; the host is not told"
    #: What it changes depends on its arguments: the handler decides, command by command.
    CHOOSES = "decided by what it asks for"
    #: Nobody has said what it does.
    UNKNOWN = "refused, since nobody looked at it: EPERM"


#: The effects that are judged by a descriptor, and the argument that it is in; some calls have two.
PARTS = {
    Effect.INPUT: ((Effect.INPUT, 0),),
    Effect.DESCRIPTION: ((Effect.DESCRIPTION, 0),),
    Effect.CHANNEL: ((Effect.CHANNEL, 0),),
    Effect.OUTPUT: ((Effect.OUTPUT, 0),),
    Effect.WATCHES: ((Effect.DESCRIPTION, 0),),
    Effect.SENDS: ((Effect.OUTPUT, 0), (Effect.INPUT, 1)),
    Effect.TEES: ((Effect.OUTPUT, 1), (Effect.INPUT, 0)),
    Effect.COPIES: ((Effect.OUTPUT, 2), (Effect.INPUT, 0)),
}
#: What a sandbox always refuses: no such call of Quire's process is the guest's either.
REFUSED = frozenset((Effect.FILES, Effect.OTHERS, Effect.UNKNOWN))
#: What a sandbox answers by itself, whatever the arguments: the host hears of none of it.
KEPT_FROM_THE_HOST = REFUSED | {Effect.LOCKS, Effect.HINT}
