"""Which execution providers run a model, and what is said where they cannot."""

import warnings

import pytest

from lamella.engines.providers import CPU, Provider, choose, parse_provider, say_dropped, say_idle
from lamella.errors import EngineError, LamellaWarning, UsageError

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        ("cpu", Provider(CPU)),
        ("CUDA", Provider(CUDA)),
        ("CUDAExecutionProvider", Provider(CUDA)),
        ("trt", Provider(TENSORRT)),
        ("cuda:device_id=1", Provider(CUDA, {"device_id": "1"})),
        ("cuda: device_id = 1 ,gpu_mem_limit=9", Provider(CUDA, {"device_id": "1", "gpu_mem_limit": "9"})),
        ("openvino:device_type=HETERO:GPU", Provider("OpenVINOExecutionProvider", {"device_type": "HETERO:GPU"})),
        ("cuda:", Provider(CUDA)),
        ("cuda:x=", Provider(CUDA, {"x": ""})),
        ("MyOwnExecutionProvider:a=b=c", Provider("MyOwnExecutionProvider", {"a": "b=c"})),
    ],
)  # fmt: skip
def test_a_provider_is_a_name_and_options(text: str, provider: Provider) -> None:
    assert parse_provider(text) == provider


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("kuda", "no execution provider `kuda`", "did you mean `cuda`?"),
        ("", "no execution provider ``", "known are cpu, cuda,"),
        ("ExecutionProvider", "no execution provider", "known are"),
        ("cuda:1", "`1` is no option", "`cuda:KEY=VALUE,KEY=VALUE`"),
        ("cuda:=1", "`=1` is no option", "KEY=VALUE"),
    ],
)
def test_what_is_no_provider_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_provider(text)
    assert hint in (caught.value.hint or "")


def test_all_that_are_available_are_taken_in_order_and_the_cpu_behind_them() -> None:
    chosen = choose(["trt", "cuda:device_id=1"], [CPU, CUDA, TENSORRT], fallback=True)
    assert chosen == [Provider(TENSORRT), Provider(CUDA, {"device_id": "1"}), Provider(CPU)]
    assert choose(["cuda"], [CPU, CUDA], fallback=False) == [Provider(CUDA)]
    assert choose(["cpu", "cuda"], [CPU, CUDA], fallback=True) == [Provider(CPU), Provider(CUDA)]


def test_one_that_is_lacking_is_warned_of_with_what_there_is_and_what_to_install() -> None:
    with pytest.warns(LamellaWarning) as caught:
        chosen = choose(["cuda"], ["AzureExecutionProvider", CPU], fallback=True)
    assert chosen == [Provider(CPU)]
    text = str(caught[0].message)
    assert "has no execution provider `cuda`" in text
    assert "it has azure, cpu" in text
    assert "install `onnxruntime-gpu`" in text


def test_without_a_fallback_one_that_is_lacking_is_an_error() -> None:
    with pytest.raises(EngineError, match="`tensorrt`; it has cpu") as caught:
        choose(["trt", "cpu"], [CPU], fallback=False)
    assert "onnxruntime-gpu" in (caught.value.hint or "")
    assert "--no-fallback" in (caught.value.hint or "")


def test_one_that_is_wanted_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="`cuda` is wanted twice"):
        choose(["cuda", "CUDAExecutionProvider:device_id=1"], [CUDA, CPU], fallback=True)


def test_one_that_was_dropped_is_warned_of_with_its_reason() -> None:
    chosen = [Provider(CUDA), Provider(CPU)]
    with pytest.warns(LamellaWarning, match="`cuda` could not be started: no device; the model runs without it"):
        say_dropped(chosen, [CPU], fallback=True, reason="no device")
    with pytest.raises(EngineError, match="`cuda` could not be started"):
        say_dropped(chosen, [CPU], fallback=False)


def test_one_without_work_is_warned_of_and_the_cpus_is_not() -> None:
    with pytest.warns(LamellaWarning, match="`cuda` runs no node") as caught:
        say_idle([Provider(CUDA), Provider(CPU)], {TENSORRT})
    assert len(caught) == 1


def test_nothing_is_said_where_all_is_as_it_was_wanted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = choose(["cuda"], [CUDA, CPU], fallback=True)
        say_dropped(chosen, [CUDA, CPU], fallback=False)
        say_idle(chosen, {CUDA, CPU})
