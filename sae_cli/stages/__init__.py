"""One file a command: open the run, loop, write its artifacts."""
