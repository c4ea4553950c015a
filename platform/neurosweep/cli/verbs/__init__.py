"""The verbs: every module offers ``add_parser(subparsers)`` and ``run(args) -> int``."""
