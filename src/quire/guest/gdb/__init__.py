"""gdb's remote protocol: a debugger connects and looks at a guest, stops it, steps it, goes on.

Contract: what the debugger sends is answered or refused, never believed; the guest is as it was when it leaves.
"""
