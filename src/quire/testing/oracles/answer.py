"""What an engine did with one access."""

from dataclasses import dataclass

__all__ = ["Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The exception (vector, error code, CR2) or success with the byte that was read; `outside`: not in memory."""

    vector: int | None = None
    error_code: int = 0
    cr2: int = 0
    value: int | None = None
    outside: bool = False
