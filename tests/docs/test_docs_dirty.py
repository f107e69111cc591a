"""docs/reference/dirty.md: its examples print what it shows, and it names every way."""

from examples import check_examples, text_of

from quire.observe import DirtyWay


def test_the_examples_print_what_is_shown() -> None:
    check_examples("dirty.md")


def test_every_way_is_named() -> None:
    for way in DirtyWay:
        assert f"| `DirtyWay.{way.name}` |" in text_of("dirty.md")
