"""Few cases of each test: always the same, and some of every test."""

from sampling import few


def test_a_test_with_few_cases_keeps_them_and_one_with_many_a_third() -> None:
    names = ["a::one", "a::two[x]", "a::two[y]", "b::two[x]", *(f"a::many[{n}]" for n in range(7))]
    kept = [name for name, keep in zip(names, few(names), strict=True) if keep]
    assert kept == ["a::one", "a::two[x]", "a::two[y]", "b::two[x]", "a::many[0]", "a::many[3]", "a::many[6]"]


def test_cases_need_not_stand_together() -> None:
    names = ["a[0]", "b", "a[1]", "a[2]", "a[3]"]
    assert list(few(names)) == [True, True, False, False, True]
