"""One run of the engine as one compiled call.

Contract: the engine starts at the RIP that the pointer cells hold, and when it has stopped they hold RIP, RSP and RFLAGS.
"""
