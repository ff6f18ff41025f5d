"""`python -m speechbridge`: the command line."""

from speechbridge.cli.main import main

main()
