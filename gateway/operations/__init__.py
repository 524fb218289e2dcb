"""Operations: settings read, logs, metrics, ports, signals."""
