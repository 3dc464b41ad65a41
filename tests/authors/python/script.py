"""A script that behaves as the tag `behave` says; tests/authors.rs says what each must lead to."""

import random
import re
import sys

from scorehost import (
    Model, Output, Permanent, Tensor, Transient, by_file, context, file_name, float32, log, setting,
)

import shapes


def init():
    print("init was called")
    if setting("behave") == "fail_init":
        raise Permanent("not today")


def run(mini_batch: list[str]):
    return BEHAVIOURS[setting("behave", "")](mini_batch)


def raise_error(mini_batch):
    print("before it")
    return {}["no such key"]


def transient(mini_batch):
    if context.attempt() == 1:
        raise Transient("busy")
    return [[file_name(file), context.attempt()] for file in mini_batch]


def recurse(mini_batch):
    return recurse(mini_batch)


def leave(mini_batch):
    sys.exit(3)


def regex_without_end(mini_batch):
    return re.match(r"(a+)+$", "a" * 64 + "b")


def loop(mini_batch):
    while True:
        pass


def memory(mini_batch):
    held = []
    while True:
        held.append("x" * (16 << 20) + str(len(held)))


def no_file(mini_batch):
    return open("/etc/passwd").read()


def write_input(mini_batch):
    return open(mini_batch[0], "w")


def by_files(mini_batch):
    def bytes_of(file):
        if file.endswith("001.txt"):
            raise ValueError("odd")
        if file.endswith("002.txt"):
            raise Permanent("bad file")
        return len(open(file, "rb").read())

    return by_file(mini_batch, ["file", "bytes"], bytes_of, lambda file, size: (file_name(file), size))


def wrong_width(mini_batch):
    return by_file(mini_batch, ["a", "b"], lambda file: ("one",))


def plain_values(mini_batch):
    return [index for index, _ in enumerate(mini_batch)]


def dicts(mini_batch):
    return [{"file": file_name(file), "odd" if index % 2 else "even": index} for index, file in enumerate(mini_batch)]


def mixed(mini_batch):
    return [1, "one", *mini_batch[2:]]


def kinds(mini_batch):
    output = Output(["empty", "boolean", "integer", "number", "score", "text"])
    for index, file in enumerate(mini_batch):
        number = index if index % 2 else index / 8
        score = float32(Tensor.from_floats([1], [0.1]).floats()[0])
        output.push((None, index == 0, 2**62 + index, number, score, None if index == 1 else f'é "{index}"'))
    return output


def too_large(mini_batch):
    return [2**63 for _ in mini_batch]


def no_rows(mini_batch):
    return 5


def draw(mini_batch):
    return [(file_name(file), random.random(), shapes.name(index)) for index, file in enumerate(mini_batch)]


def many_tensors(mini_batch):
    for index in range(150_000):
        tensor = Tensor.from_floats([1], [index])
    return [tensor.floats()[0] for _ in mini_batch]


def logged(mini_batch):
    log.debug("no")
    log.warning("careful")
    print("printed", file=sys.stderr)
    return [True for _ in mini_batch]


def settings(mini_batch):
    return [(setting("whole", 1), setting("half", 0.25), setting("flag", False), setting("absent", "so"))] * len(mini_batch)


def wrong_setting(mini_batch):
    return setting("half", 1)


def no_model(mini_batch):
    return Model.open("none.onnx")


def half_a_character(mini_batch):
    return ["\ud800" for _ in mini_batch]


def wrong_argument(mini_batch):
    return Tensor.from_floats("no", [1])


BEHAVIOURS = {name: value for name, value in globals().items() if callable(value)}
