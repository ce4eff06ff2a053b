"""`lamella` and `python -m lamella`: the command line."""

import sys


def main() -> int:
    """Run the command line; the exit status. Ctrl-C is no traceback while it is still being imported, either."""
    try:
        from lamella.cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
