"""Cpus: what executes guest instructions. Each fulfils the Cpu protocol of the vcpu room.

``soft`` (Unicorn; no privilege needed) is the one that there is; import it from :mod:`quire.cpu.soft`, which loads
the engine and the kernels.
"""

__all__: list[str] = []
