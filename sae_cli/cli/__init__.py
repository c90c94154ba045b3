"""The command line, one thin file a command. The only user of typer, sys.argv and `hydra.main`."""
