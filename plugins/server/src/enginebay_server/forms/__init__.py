"""What clients send and get, as types: the one place where both are written down. It knows no engine."""
