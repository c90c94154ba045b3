"""`python -m sae_cli` is `sae`."""

from sae_cli.cli.main import main

if __name__ == "__main__":
    main()
