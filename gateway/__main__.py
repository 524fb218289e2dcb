"""`python -m gateway`: the same as `progress-gateway`."""

from gateway.commands.cli import main

if __name__ == "__main__":
    main()
