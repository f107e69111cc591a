"""Memory of the host beside a guest's frames: frames are set aside for it, as many as it takes, and come back."""

from quire.guest.kernel.host_memory import HostMemory

K4, M2 = 4096, 2 << 20


class Frames:
    """So much memory; large blocks only while `large` says so."""

    def __init__(self, size: int, *, large: bool = True) -> None:
        self.left, self.large, self.taken = size, large, 0

    def allocate(self, size: int) -> int | None:
        if size > self.left or (size == M2 and not self.large):
            return None
        self.left -= size
        self.taken += 1
        return self.taken << 21

    def free(self, gpa: int, size: int) -> None:
        assert gpa
        self.left += size


def test_what_is_counted_is_set_aside() -> None:
    frames = Frames(8 << 20)
    memory = HostMemory(frames)  # type: ignore[arg-type]
    assert memory.count((1, 1), 3 * M2 + 5) and frames.left == M2 - 2 * K4 + K4
    assert memory.size_of((1, 1)) == 3 * M2 + 5 and memory.size_of((1, 2)) == 0
    left = frames.left
    assert not memory.count((1, 2), M2) and frames.left == left
    assert memory.count((1, 1), 100) and frames.left >= 6 * M2 // 2 - K4
    assert memory.count((1, 2), 2 * M2)
    assert memory.count_only({(1, 2): K4, (9, 9): M2})
    assert frames.left == (8 << 20) - K4 or frames.left == (8 << 20) - M2
    assert not memory.count_only({(1, 2): K4})
    assert memory.count_only({}) and frames.left == 8 << 20


def test_small_frames_do_where_no_large_ones_are() -> None:
    frames = Frames(8 << 20, large=False)
    memory = HostMemory(frames)  # type: ignore[arg-type]
    assert memory.count((1, 1), 8 << 20) and frames.left == 0 and frames.taken == 2048
    assert not memory.count((1, 1), (8 << 20) + 1) and memory.size_of((1, 1)) == 8 << 20
