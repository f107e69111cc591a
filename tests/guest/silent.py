"""A keyboard at which nobody types."""

__all__ = ["Silent"]


class Silent:
    """Nobody types."""

    is_open = False

    def look(self) -> None:
        pass

    def take(self, most: int) -> bytes:
        return b""

    def wait(self, seconds: float) -> None:
        raise AssertionError("nobody is waited for")
