"""The console script `pentimento`, from this tree."""

from services.cli import main

main()
