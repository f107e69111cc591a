"""The second dimension of the compiled walk: one guest-physical address through EPT.

Contract: the same as of :mod:`quire.paging`; split from it because kernels are flat files of one sitting.
"""

__all__: list[str] = []
