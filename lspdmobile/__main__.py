"""``python -m lspdmobile``: the same as the command ``lspdmobile``."""

from lspdmobile.cli import main

if __name__ == "__main__":
    main()
