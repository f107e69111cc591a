"""Guests: what runs on a machine. A process guest is one unmodified Linux program, and Quire is its kernel.

The room's contract. A process guest sees its machine only through
:class:`quire.guest.kernel.machine.ProcessMachine`. Every number that the guest controls is checked before it is
used: a hostile program can corrupt only itself. A guest's fault is a value
(:class:`~quire.guest.kernel.siginfo.SignalInfo`, a negative errno); what cannot be launched is a LaunchError with a
shell's exit status; an exception of any other kind is a bug of ours.
"""
