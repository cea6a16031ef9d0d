"""A machine for pickles that makes values and nothing else.

A pickle is a program for a stack machine, whose instructions may call whatever Python can import.
This machine has the instructions by which files of tensors are written, and no others: it imports
nothing, calls only functions of a closed table, and sets attributes of no object. Python's own
`pickle.Unpickler` is not used, with a table or without: before a subclass is asked for anything it
makes room for any place of its memo that an instruction names, hands out what extension codes stand
for, and hashes whatever is a key, which for nested tuples takes as long as the file likes.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import UserError

LONGEST_NUMBER = 16
"""Bytes of the longest whole number that is read."""
MOST_STEPS = 5_000_000
"""Instructions of one pickle at most; a network of a thousand tensors has some 50,000."""


class Record:
    """What an object of a class becomes that the table knows by name: its arguments and its state,
    as values."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()):
        self.name = name
        self.arguments = arguments
        self.state: Any = None


class Inert:
    """A function that stands in a table for one of another program: `make(*arguments)`.

    It must not do anything but look at its arguments and make a value.
    """

    def __init__(self, name: str, make: Callable[..., Any]):
        self.name = name
        self.make = make


Table = Callable[[str, str], Inert | None]
"""From a module and a name to what stands for it; None for what is refused."""


def refused(name: str, why: str) -> UserError:
    """The one line in which a file is refused."""
    return UserError(f"{name}: refused, {why}; this is no file of tensors")


def shown(text: str) -> str:
    """A text of a file as it may be printed: short, and on one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:120])


class Machine:
    """Runs one pickle that begins at `start`.

    **Arguments:** `name` of the file, for messages; `table` of the functions that it may call;
    `persistent` makes a value of an identifier that stands for something outside of the pickle.
    """

    def __init__(
        self,
        data: memoryview,
        name: str,
        table: Table,
        persistent: Callable[[Any], Any],
        start: int = 0,
    ):
        self.data, self.name, self.table, self.persistent = data, name, table, persistent
        self.place = start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> tuple[Any, int]:
        """The value, and the place after its last byte. Raises `UserError`."""
        for _ in range(MOST_STEPS):
            code = self.take(1)[0]
            if code == ord("."):
                return self.pop(), self.place
            step = STEPS.get(code)
            if step is None:
                raise refused(self.name, f"it has the pickle instruction 0x{code:02x}")
            step(self)
        raise refused(self.name, f"its pickle has more than {MOST_STEPS:,} instructions")

    def take(self, count: int) -> memoryview:
        """The next bytes, not copied."""
        if count > len(self.data) - self.place:
            raise refused(self.name, f"it ends within a pickle ({count:,} bytes are missing)")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, form: str) -> Any:
        """The next number, of a form of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """The text up to the next line break."""
        end = self.place
        while end < len(self.data) and self.data[end] != 10 and end - self.place < 1000:
            end += 1
        text = self.text(end - self.place)
        self.take(1)
        return text

    def text(self, count: int) -> str:
        """The next bytes as text."""
        try:
            return str(self.take(count), "utf-8")
        except UnicodeDecodeError:
            raise refused(self.name, "it has a text that is not UTF-8") from None

    def pop(self) -> Any:
        """The top of the stack, not reaching below the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise refused(self.name, "its pickle takes from an empty stack")
        return self.stack.pop()

    def popped(self, kind: type, what: str) -> Any:
        """The top of the stack, which must be of this type."""
        value = self.pop()
        if type(value) is not kind:
            raise refused(self.name, f"its pickle needs {what} where there is something else")
        return value

    def top(self, kind: type, what: str) -> Any:
        """The top of the stack, left there."""
        value = self.popped(kind, what)
        self.stack.append(value)
        return value

    def to_mark(self) -> list[Any]:
        """What stands above the last mark."""
        if not self.marks:
            raise refused(self.name, "its pickle has no mark where it needs one")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """The value of a function of the table."""
        if not isinstance(function, Inert):
            raise refused(self.name, "its pickle calls what is no function")
        try:
            return function.make(*arguments)
        except (TypeError, ValueError) as error:
            what = f"its pickle calls {shown(function.name)} with wrong arguments"
            raise refused(self.name, f"{what} ({shown(str(error))})") from None

    def find(self, module: str, name: str) -> Inert:
        """What stands in the table for a function or a class. Raises `UserError`."""
        found = self.table(module, name)
        if found is None:
            raise refused(self.name, f"it asks for {shown(module)}.{shown(name)}")
        return found

    def remember(self, index: int) -> None:
        """Keeps the top of the stack for `recall`."""
        value = self.pop()
        self.stack.append(value)
        self.memo[index] = value

    def recall(self, index: int) -> None:
        """Pushes what was kept."""
        if index not in self.memo:
            raise refused(self.name, "its pickle asks for a value that it has not kept")
        self.stack.append(self.memo[index])

    def fill(self, items: list[Any]) -> None:
        """Puts keys and values into the dictionary on top of the stack."""
        target = self.top(dict, "a dictionary")
        if len(items) % 2:
            raise refused(self.name, "its pickle has a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, str | int | float | None):
                raise refused(self.name, "it has a dictionary whose keys are no texts or numbers")
            target[key] = value

    def extend(self, items: list[Any]) -> None:
        """Puts values into the list on top of the stack."""
        self.top(list, "a list").extend(items)

    def build(self) -> None:
        """Gives a record its state. That of a dictionary (`_metadata` of a `state_dict`) is left
        out."""
        state, target = self.pop(), self.pop()
        if isinstance(target, Record):
            target.state = state
        elif type(target) is not dict:
            raise refused(self.name, "its pickle sets the state of what has none")
        self.stack.append(target)


def _protocol(machine: Machine) -> None:
    if machine.number("<B") > 5:
        raise refused(machine.name, "its pickle protocol is newer than 5")


def _frame(machine: Machine) -> None:
    machine.take(8)  # how many bytes follow: the file says so already


def _drop(machine: Machine) -> None:
    machine.pop()


def _long(form: str) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        count = machine.number(form)
        if not 0 <= count <= LONGEST_NUMBER:
            raise refused(machine.name, f"it has a whole number of {count:,} bytes")
        machine.stack.append(int.from_bytes(machine.take(count), "little", signed=True))

    return step


def _text(form: str) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(m.text(_length(m, form)))


def _bytes(form: str) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(m.take(_length(m, form)))


def _length(machine: Machine, form: str) -> int:
    count = machine.number(form)
    if count < 0:
        raise refused(machine.name, "its pickle has a text of negative length")
    return count


def _number(form: str) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(m.number(form))


def _push(make: Callable[[], Any]) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(make())


def _tuple(count: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return step


def _reduce(machine: Machine) -> None:
    arguments = machine.popped(tuple, "arguments")
    machine.stack.append(machine.call(machine.pop(), arguments))


def _global(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.stack.append(machine.find(module, name))


def _stack_global(machine: Machine) -> None:
    name, module = machine.popped(str, "a name"), machine.popped(str, "a name")
    machine.stack.append(machine.find(module, name))


def _pair(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill([key, value])


STEPS: Mapping[int, Callable[[Machine], None]] = {
    0x80: _protocol,
    0x95: _frame,
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("0"): _drop,
    ord("1"): lambda m: m.to_mark().clear(),
    ord("N"): _push(lambda: None),
    0x88: _push(lambda: True),
    0x89: _push(lambda: False),
    ord("J"): _number("<i"),
    ord("K"): _number("<B"),
    ord("M"): _number("<H"),
    ord("G"): _number(">d"),
    0x8A: _long("<B"),
    0x8B: _long("<i"),
    ord("X"): _text("<I"),
    0x8C: _text("<B"),
    0x8D: _text("<Q"),
    ord("U"): _text("<B"),
    ord("T"): _text("<i"),
    ord("C"): _bytes("<B"),
    ord("B"): _bytes("<I"),
    0x8E: _bytes("<Q"),
    ord(")"): _push(tuple),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    ord("t"): lambda m: m.stack.append(tuple(m.to_mark())),
    ord("]"): _push(list),
    0x8F: _push(list),  # a set, as a list: nothing is hashed
    ord("a"): lambda m: m.extend([m.pop()]),
    ord("e"): lambda m: m.extend(m.to_mark()),
    0x90: lambda m: m.extend(m.to_mark()),
    ord("}"): _push(dict),
    ord("s"): _pair,
    ord("u"): lambda m: m.fill(m.to_mark()),
    ord("q"): lambda m: m.remember(m.number("<B")),
    ord("r"): lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("h"): lambda m: m.recall(m.number("<B")),
    ord("j"): lambda m: m.recall(m.number("<I")),
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _reduce,  # a new object of a class: the same, as the table has no classes
    ord("b"): lambda m: m.build(),
    ord("Q"): lambda m: m.stack.append(m.persistent(m.pop())),
}
"""What the machine does at each instruction, by its code."""
