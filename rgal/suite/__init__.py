"""Running suites: settings, trials, processes, the store."""
