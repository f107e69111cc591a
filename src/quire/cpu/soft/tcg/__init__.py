"""Operations of Quire's own in the code that the engine compiles: counters, stamps of the modelled TLB, exit checks.

The engine's library exports its code generator and calls it through tables that can be written. Compiled functions
stand in between: they emit operations at the start of each block and behind each access, so that a run counts
and stamps without leaving the engine's code; only what misses the modelled first-level TLB reaches a model. Contract:
counts, and what the modelled TLB holds, are those of the hooks; where anything about the library is in doubt, the hooks
are what runs.
"""
