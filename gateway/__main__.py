"""`progress-gateway` and `python -m gateway`."""

from gateway.operations import signals  # first, for early signals: see there

# isort: split
import sys

HINT = "progress-gateway: this needs the gateway extra: pip install 'progress-gateway[gateway]'"


def main() -> None:
    """Run the command line, or say what to install if only the publisher's dependencies are installed.

    Also handles a missing module while a command runs: some commands import their dependencies late, and click may be
    installed for another package.
    """
    try:
        from gateway.commands.cli import main as commands

        commands()
    except ModuleNotFoundError as error:
        if (error.name or "gateway").partition(".")[0] in {"gateway", "publisher"}:
            raise
        sys.stderr.write(f"{HINT}\n")
        sys.exit(signals.ExitStatus.CONFIGURATION)


if __name__ == "__main__":
    main()
