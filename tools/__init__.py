"""Offline tools: each module is one subcommand of `zkstore`, found through its entry point.

In the repository this is the package `tools`, installed it is `zkstore.tools`: import only
relatively inside of it.
"""
