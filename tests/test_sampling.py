"""Few cases of each test: always the same, and some of every test."""

from sampling import few


def test_the_first_case_of_each_test_and_every_sixth_from_there_on() -> None:
    names = ["a::one", "a::two[x]", "a::two[y]", "b::two[y]", *(f"a::many[{n}]" for n in range(14))]
    kept = [name for name, keep in zip(names, few(names), strict=True) if keep]
    assert kept == ["a::one", "a::two[x]", "b::two[y]", "a::many[0]", "a::many[6]", "a::many[12]"]


def test_cases_need_not_stand_together() -> None:
    names = ["a[0]", "b", *(f"a[{n}]" for n in range(1, 7))]
    assert list(few(names)) == [True, True, *[False] * 5, True]
