"""How `progress-gateway` ends. Scripts, systemd (`RestartPreventExitStatus=2 78`) and people tell causes by it."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """75 and 78 are those of sysexits.h; `publish` and `watch` use 0, 1 and 2 only."""

    OK = 0  # ended in order
    FAILURE = 1  # a crash, a port that is taken; of `publish`: refused or not sent
    USAGE = 2  # a wrong command line
    REDIS_AWAY = 75  # Redis cannot be reached at the start, or not used yet: starting again may help
    CONFIGURATION = 78  # a setting is wrong, or Redis refuses what it says: starting again does not help
