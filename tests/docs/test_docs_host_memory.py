"""docs/reference/numa.md and audit.md: their examples print what is shown; every option, policy and field is named."""

import pytest
from examples import check_examples, text_of

from quire.cli.verbs import group
from quire.memory.numa import PolicyKind


@pytest.mark.parametrize("document", ["numa.md", "audit.md"])
def test_the_examples_print_what_is_shown(document: str) -> None:
    check_examples(document)


def test_every_policy_and_option_about_nodes_is_named() -> None:
    text = text_of("numa.md")
    for kind in PolicyKind:
        assert f"| `{kind}" in text
    command = group.get_command(None, "numa")  # type: ignore[arg-type]
    assert command is not None
    own = [option.opts[0] for option in command.params if option.name in ("numa", "distances", "numa_policy",
           "guest_tables", "host_tables", "vcpu_node", "replicate_tables", "last_cache", "choices")]  # fmt: skip
    assert len(own) == 9
    for option in own:
        assert f"| `{option}` |" in text
