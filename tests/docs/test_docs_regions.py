"""docs/reference/regions.md: its examples print what it shows, and it names every kind and field."""

from dataclasses import fields

from examples import check_examples, text_of

from quire.mmu import Region, RegionKind


def test_the_examples_print_what_is_shown() -> None:
    check_examples("regions.md")


def test_every_kind_and_field_is_named() -> None:
    text = text_of("regions.md")
    for kind in RegionKind:
        assert f"| `RegionKind.{kind.name}` |" in text
    for one in fields(Region):
        assert one.name == "kind" or f"`{one.name}`" in text
