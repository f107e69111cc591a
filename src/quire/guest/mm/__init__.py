"""A process guest's memory: areas, pages, faults, files behind them, and the kernel's access to it."""
