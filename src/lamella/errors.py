"""Every error that Lamella raises on purpose.

```text
LamellaError                  what failed (`message`), the way out (`hint`)
├── UsageError                a call or a flag that makes no sense
├── InputError                a tensor that does not fit the model's inputs
│   └── ItemError             an image, a text, a question that a task does not take
├── ModelError                the model file itself
│   ├── MalformedModelError   not valid ONNX: truncated, inconsistent, or made to harm
│   ├── UnsafeModelError      valid, but it points outside its own folder
│   └── UnsupportedModelError valid, but nothing here can read or run it
├── PlanError                 no cut satisfies what was asked
├── SlicesError               a slices directory that is incomplete or damaged
├── PackageError              a function's package that cannot be built, or is too large
├── EngineError               the engine refused the model or failed while running it
├── RegistryError             a registry of images that is unreachable or refuses
├── StoreError                an object store that is unreachable or refuses, an object that is missing
├── RemoteError               a deployed function, or the service behind it, failed
├── ConversionError           a source that cannot be converted
├── TaskError                 a model that does not suit its task, or own functions that fail
├── MissingDependencyError    an extra that is not installed
└── VerificationError         the answer is no: the slices differ from the whole model
```

`LamellaWarning` is no error: something is not as the user may expect, and goes on.

`exit_status` is what the command line returns: 2 for wrong usage or input, 1 where the answer is no.
"""

_LONGEST, _TAIL = 600, 150


def one_line(text: str) -> str:
    """`text` as it may be shown: on one line, what is not printable escaped, the middle of a long one left out.

    Names in a model are its author's: a terminal would obey the escape sequences in them.
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - _TAIL]} ... {text[-_TAIL:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class LamellaError(Exception):
    """Base of all errors that are meant for the user.

    Args:
        message: What failed, with its name, number and limit, on one line, with no trailing period.
        hint: The way out, on one line, or None where the message already says it.
    """

    exit_status = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = one_line(message)
        self.hint = hint and one_line(hint)
        super().__init__(self.message)


class UsageError(LamellaError):
    """A call, flag or argument that makes no sense."""


class InputError(LamellaError):
    """A tensor is missing, unknown, or does not fit the model's input."""


class ItemError(InputError):
    """An item is not what its task takes.

    Attributes:
        item: Its index among the items that were given.
        reason: What is wrong with it, without saying which it is.
    """

    def __init__(self, reason: str, *, item: int, hint: str | None = None, name: str | None = None) -> None:
        super().__init__(f"{name or f'item {item}'} {reason}", hint=hint)
        self.item, self.reason = item, reason


class ModelError(LamellaError):
    """The model file cannot be used."""


class MalformedModelError(ModelError):
    """The file is not valid ONNX: truncated, inconsistent, or made to harm."""


class UnsafeModelError(ModelError):
    """The model points at files that it must not read."""


class UnsupportedModelError(ModelError):
    """The model is valid, but nothing here can read or run it."""


class PlanError(LamellaError):
    """No cut of the model satisfies what was asked."""


class SlicesError(LamellaError):
    """A slices directory is incomplete, damaged, or from another version."""


class PackageError(LamellaError):
    """A function's package cannot be built, or is too large for the platform."""


class EngineError(LamellaError):
    """The engine refused the model or failed while running it."""

    exit_status = 1


class RemoteError(LamellaError):
    """A deployed function failed, or the service behind it did.

    Attributes:
        slice: The slice that failed; None where it was none.
        function: Its function.
    """

    exit_status = 1

    def __init__(
        self, message: str, *, hint: str | None = None, slice: int | None = None, function: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.slice, self.function = slice, function


class RegistryError(LamellaError):
    """A registry of images is unreachable or refuses.

    Attributes:
        temporary: Whether the same request may succeed later.
        after_s: Seconds after which the registry asks for it; None where it does not say.
        denied: Whether it does not let this user do it.
    """

    exit_status = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        temporary: bool = False,
        after_s: float | None = None,
        denied: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.temporary, self.after_s, self.denied = temporary, after_s, denied


class StoreError(LamellaError):
    """An object is missing, or its store is unreachable or refuses."""

    exit_status = 1


class ConversionError(LamellaError):
    """A source cannot be converted to ONNX."""


class TaskError(LamellaError):
    """A model does not suit its task, or a user's own `preprocess` or `postprocess` failed."""


class MissingDependencyError(LamellaError):
    """A feature needs an extra that is not installed."""


class VerificationError(LamellaError):
    """The slices do not give the whole model's answer."""

    exit_status = 1


class LamellaWarning(UserWarning):
    """Something is not as the user may expect, and goes on: the command line says it as a message."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))
