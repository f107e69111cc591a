"""The path of one walk, as the walk caches look at it: where its tables are and how large the pages that hold them."""

from enum import IntEnum

__all__ = ["MEMO_PATH", "PATH_WORDS", "Path"]


class Path(IntEnum):
    """Words of a path; the last four are by level, 1 to 5: TABLE_GPA + level.

    From STARTED on it is what :func:`account` says of the references that the caches left.
    """

    LEVELS = 0  #: of the guest's tables
    LEAF = 1  #: level of the last guest entry that was read
    HOST_LEVELS = 2  #: of EPT
    GPA = 3  #: of the page
    HOST_SHIFT = 4  #: log2 of the EPT page behind it, 0 if the walk ended in the guest's tables
    TABLE_GPA = 4
    TABLE_SHIFT = 9  #: log2 of the EPT page behind the table
    TABLE_HPA = 14
    STARTED = 20  #: level of the first guest entry that was read
    MADE = 21  #: references to EPT for the table of each level; at MADE itself, for the page


PATH_WORDS = 27
#: Levels whose cached entries leave no more of the path than a memo of walks knows: PDE and PDPTE.
MEMO_PATH = (2, 3)
