"""Engines that nobody here wrote, behind one question: what does this access do in this world?

Each oracle takes memory and controls, executes one access, and answers with an :class:`Answer`. Oracles import their
engine when they are made, and say why when they cannot be.
"""

from quire.testing.oracles.answer import Answer

__all__ = ["Answer"]
