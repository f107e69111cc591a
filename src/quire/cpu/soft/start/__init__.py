"""One run of the engine as one compiled call.

Contract: the engine starts at the RIP among the values that it reads when it has stopped: RIP, RSP and RFLAGS.
"""
