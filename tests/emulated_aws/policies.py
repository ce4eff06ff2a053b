"""IAM's question, whether somebody may do something, asked of policies: LocalStack asks none.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """Something that somebody wants to do.

    Attributes:
        action: With the service in front.
        resource: Its ARN; `*` where the action knows none.
        context: What conditions may look at.
    """

    action: str
    resource: str = "*"
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


def allows(policies: Iterable[Document], asked: Asked) -> bool:
    """Whether one statement allows it, and none denies it."""
    effects = {entry["Effect"] for policy in policies for entry in policy["Statement"] if _concerns(entry, asked)}
    return effects == {"Allow"}


def matches(pattern: str, text: str) -> bool:
    """Whether a text is one that a pattern with `*` and `?` stands for."""
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(escaped, text, re.DOTALL) is not None


def _concerns(entry: Document, asked: Asked) -> bool:
    return (
        any(matches(pattern.lower(), asked.action.lower()) for pattern in _listed(entry["Action"]))
        and any(matches(pattern, asked.resource) for pattern in _listed(entry["Resource"]))
        and all(
            _holds(operator, wanted, asked.context.get(key))
            for operator, keys in entry.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "ArnEquals": matches,
    "ArnLike": matches,
    "Bool": lambda wanted, given: wanted.lower() == given.lower(),
    "StringEquals": lambda wanted, given: wanted == given,
    "StringLike": matches,
}


def _holds(operator: str, wanted: Any, given: tuple[str, ...] | None) -> bool:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html."""
    name = operator.removeprefix("ForAnyValue:")
    if given is None:
        return name.endswith("IfExists")
    compare = _OPERATORS[name.removesuffix("IfExists")]
    return any(compare(pattern, value) for pattern in _listed(wanted) for value in given)


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
