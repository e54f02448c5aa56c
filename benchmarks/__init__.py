"""
What Grace's scoring costs, beside other tools, in one command: `make bench`.

Not a part of the package: nothing in `src` imports it.
"""
