"""The report: one HTML file on a bench or on runs, made for looking. It trains nothing and evaluates nothing."""
