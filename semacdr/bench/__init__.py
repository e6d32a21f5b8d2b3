"""The bench: every model of a config on every data set, several seeds, one protocol, one leaderboard."""
