"""The soft Cpu in ring 0: machine guests, whose kernel is their own.

Contract: what the guest sees is what the Intel manual says, whatever engine lies below; privileged instructions stop
at themselves and become VM exits as the VMCS controls say; a guest's fault is delivered through its own IDT.
"""

from quire.cpu.soft.ring0.cpu import MachineCpu

__all__ = ["MachineCpu"]
