"""A module beside the script."""


def name(index: int) -> str:
    return ["round", "square"][index % 2]
