"""Nothing here is for pytest: these modules need packages that its environment lacks."""

collect_ignore_glob = ["*.py"]
