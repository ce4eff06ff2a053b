"""What is on record outlives the process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lamella.errors import LamellaError, UsageError
from lamella.gateway.events.ledger import Ledger

KEY = "größe/a%20b'\"; DROP TABLE objects; --.npy"


def reopened(ledger: Ledger, path: Path) -> Ledger:
    ledger.close()
    return Ledger(path)


def test_what_is_settled_stays_so_for_the_same_content(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new" / "record.db")
    ledger.begin(KEY, "1", 1)
    assert not ledger.is_settled(KEY, "1")
    ledger.settle(KEY, "1")
    ledger.begin("other", "9", 1)
    ledger.settle("other", "9", error="no")
    for _ in range(2):
        assert ledger.is_settled(KEY, "1")
        assert not ledger.is_settled(KEY, "2")
        assert not ledger.is_settled("unknown", "1")
        assert ledger.counts() == (1, 1)
        ledger = reopened(ledger, tmp_path / "new" / "record.db")
    ledger.close()


def test_attempts_are_counted_for_each_content(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "record.db")
    assert ledger.attempts(KEY, "1") == (0, "")
    ledger.begin(KEY, "1", 1)
    ledger.failed(KEY, "1", 1, "it hurts")
    assert ledger.attempts(KEY, "1") == (1, "it hurts")
    ledger.begin(KEY, "1", 2)
    ledger = reopened(ledger, tmp_path / "record.db")
    assert ledger.attempts(KEY, "1") == (2, "")
    assert ledger.attempts(KEY, "2") == (0, "")
    ledger.close()


def test_what_is_forgotten_is_new_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "record.db")
    ledger.settle("a", "1")
    ledger.begin("b", "1", 1)
    ledger.settle("c", "1")
    ledger.forget(["a", "b", "never there"])
    for _ in range(2):
        assert ledger.keys() == {"c"}
        assert not ledger.is_settled("a", "1")
        ledger = reopened(ledger, tmp_path / "record.db")
    ledger.close()


def test_only_one_at_a_time_has_it_open(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "record.db")
    with pytest.raises(UsageError, match="in use") as caught:
        Ledger(tmp_path / "record.db")
    assert caught.value.hint
    ledger.settle("a", "1")
    reopened(ledger, tmp_path / "record.db").close()


def test_a_killed_process_loses_nothing_that_it_recorded(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from lamella.gateway.events.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for n in range(50): ledger.begin(str(n), 'e', 1); ledger.settle(str(n), 'e')\n"
        "ledger.begin('last', 'e', 3)\n"
        "os.kill(os.getpid(), 9)"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(tmp_path / "record.db")], env=os.environ, check=False)
    assert finished.returncode == -signal.SIGKILL
    ledger = Ledger(tmp_path / "record.db")
    assert ledger.counts() == (50, 0)
    assert ledger.attempts("last", "e") == (3, "")
    ledger.close()


def test_a_damaged_file_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "record.db").write_bytes(b"no database" * 1000)
    with pytest.raises(LamellaError, match="damaged") as caught:
        Ledger(tmp_path / "record.db")
    assert "once more" in str(caught.value.hint)
