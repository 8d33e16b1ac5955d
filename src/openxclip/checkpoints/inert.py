"""Read pickles without running them.

A pickle is a program that may call any function it names. This reader interprets the same program, but names stay
names: each must be in a table (`stand_ins`), where it stands for a value or for a short function of ours that checks
its arguments. Nothing else is ever called, attributes are set only on our own stand-ins, and the cost is bounded: the
program's length, its steps, and all sizes in it.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

from openxclip.checkpoints.stand_ins import (
    MAKERS,
    DamagedPickleError,
    Inert,
    Maker,
    Name,
    NumpyType,
    RefusedPickleError,
    as_key,
    of_type,
)

MAX_PICKLE_BYTES = 64 << 20  # a training checkpoint of the largest CLIP has under 2 MB
MAX_STEPS = 1_000_000  # each makes at most a small object; that checkpoint has some 75,000
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY_CONTAINERS: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLE_SIZES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class InertReader:
    """A reader of consecutive pickles.

    Args:
        content: the pickles.
        makers: functions to call in place of the names that may be called.
        values: values of the names that may be used as values.
        persistent: returns the value of a persistent id (torch's reference to a storage).
    """

    def __init__(
        self,
        content: bytes,
        *,
        makers: dict[tuple[str, str], Maker],
        values: dict[tuple[str, str], Any],
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._file = io.BytesIO(content)
        self._makers = {**MAKERS, **makers}
        self._values = values
        self._persistent = persistent
        self._steps = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._actions = {
            name.removeprefix("_op_").upper(): getattr(self, name) for name in dir(self) if name.startswith("_op_")
        }

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._file.tell()

    def read(self) -> Any:
        """Return the value of the next pickle.

        Raises:
            RefusedPickleError: the pickle names something that isn't in the tables, or costs too much.
            DamagedPickleError: the pickle is invalid or incomplete.
        """
        self._stack, self._marks, self._memo = [], [], {}
        try:
            for opcode, argument, _ in pickletools.genops(self._file):
                self._charge(1)
                self._run(opcode.name, argument)
            if len(self._stack) != 1 or self._marks:
                raise DamagedPickleError("values are left on its stack")
            return self._stack.pop()
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError) as error:
            raise DamagedPickleError(str(error)[:200] or type(error).__name__) from error

    def _run(self, instruction: str, argument: Any) -> None:
        if instruction in _CONSTANTS:
            self._push(_CONSTANTS[instruction])
        elif instruction in _EMPTY_CONTAINERS:
            self._push(_EMPTY_CONTAINERS[instruction]())
        elif instruction in _TUPLE_SIZES:
            values = [self._pop() for _ in range(_TUPLE_SIZES[instruction])]
            self._push(tuple(reversed(values)))
        elif instruction in self._actions:
            self._actions[instruction](argument)
        else:
            raise RefusedPickleError(f"it uses the pickle instruction {instruction}")

    def _charge(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise RefusedPickleError(f"it takes more than {MAX_STEPS} steps")

    def _charge_copy(self, value: Any) -> None:
        """Count a container by its length: one step may copy it."""
        if isinstance(value, list | tuple | dict | set | frozenset):
            self._charge(len(value))

    # ------------------------------------------------------------------------------------------------ the stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._top()
        del self._stack[-1]
        return value

    def _top(self) -> Any:
        bottom = self._marks[-1] if self._marks else 0
        if len(self._stack) <= bottom:
            raise DamagedPickleError("it pops more than it pushed")
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _op_proto(self, version: int) -> None:
        if version > 5:
            raise DamagedPickleError(f"pickle protocol {version}")

    def _op_frame(self, _: int) -> None: ...

    def _op_stop(self, _: None) -> None: ...

    def _op_mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _op_pop(self, _: None) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _op_pop_mark(self, _: None) -> None:
        self._since_mark()

    def _op_dup(self, _: None) -> None:
        self._push(self._top())

    # ------------------------------------------------------------------------------------------------ plain values

    _op_int = _op_binint = _op_binint1 = _op_binint2 = _op_long = _op_long1 = _op_long4 = _push
    _op_float = _op_binfloat = _push
    _op_string = _op_binstring = _op_short_binstring = _push
    _op_unicode = _op_binunicode = _op_short_binunicode = _op_binunicode8 = _push
    _op_binbytes = _op_short_binbytes = _op_binbytes8 = _op_bytearray8 = _push

    # ------------------------------------------------------------------------------------------------ containers

    def _op_list(self, _: None) -> None:
        self._push(self._since_mark())

    def _op_tuple(self, _: None) -> None:
        self._push(tuple(self._since_mark()))

    def _op_frozenset(self, _: None) -> None:
        self._push(frozenset(map(as_key, self._since_mark())))

    def _op_dict(self, _: None) -> None:
        items: dict[Any, Any] = {}
        _put_items(items, self._since_mark())
        self._push(items)

    def _op_append(self, _: None) -> None:
        value = self._pop()
        of_type(self._top(), list).append(value)

    def _op_appends(self, _: None) -> None:
        values = self._since_mark()
        of_type(self._top(), list).extend(values)

    def _op_setitem(self, _: None) -> None:
        value, key = self._pop(), self._pop()
        _put_items(of_type(self._top(), dict), [key, value])

    def _op_setitems(self, _: None) -> None:
        values = self._since_mark()
        _put_items(of_type(self._top(), dict), values)

    def _op_additems(self, _: None) -> None:
        values = self._since_mark()
        of_type(self._top(), set).update(map(as_key, values))

    # ------------------------------------------------------------------------------------------------ the memo

    def _op_put(self, index: int) -> None:
        if not 0 <= index <= MAX_STEPS:  # Python's own reader would allocate an array of that length
            raise RefusedPickleError(f"it numbers an object {index}")
        self._memo[index] = self._top()

    _op_binput = _op_long_binput = _op_put

    def _op_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._top()

    def _op_get(self, index: int) -> None:
        self._push(self._memo[index])

    _op_binget = _op_long_binget = _op_get

    # ------------------------------------------------------------------------------------------------ names and calls

    def _named(self, module: str, name: str) -> Any:
        if (module, name) in self._values:
            return self._values[module, name]
        if (module, name) in self._makers or module.split(".", 1)[0] == "__torch__":
            return Name(module, name)
        raise RefusedPickleError(f"it names {Name(module, name)}")

    def _op_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push(self._named(module, name))

    def _op_stack_global(self, _: None) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._named(of_type(module, str), of_type(name, str)))

    def _make(self, name: Any, arguments: Any) -> None:
        of_type(arguments, tuple)
        if not isinstance(name, Name):
            raise RefusedPickleError(f"it calls {_describe(name)}")
        self._charge(len(arguments) + sum(len(a) for a in arguments if isinstance(a, str | bytes)) // 64)
        for argument in arguments:
            self._charge_copy(argument)
        maker = self._makers.get((name.module, name.name))
        self._push(Inert(name) if maker is None else maker(arguments))

    def _op_reduce(self, _: None) -> None:
        arguments = self._pop()
        self._make(self._pop(), arguments)

    _op_newobj = _op_reduce

    def _op_newobj_ex(self, _: None) -> None:
        keyword_arguments = self._pop()
        if of_type(keyword_arguments, dict):
            raise RefusedPickleError("it makes an object with named arguments")
        self._op_reduce(None)

    def _op_inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._make(self._named(module, name), tuple(self._since_mark()))

    def _op_obj(self, _: None) -> None:
        name, *arguments = self._since_mark()
        self._make(name, tuple(arguments))

    def _op_build(self, _: None) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, NumpyType):
            if of_type(state, tuple)[1:2] == (">",):
                raise RefusedPickleError("it holds big-endian numbers")
        elif isinstance(target, Inert):
            if isinstance(state, tuple) and len(state) == 2:
                state = state[1]
            if isinstance(state, dict):
                self._charge_copy(state)
                target.state.update((key, value) for key, value in state.items() if type(key) is str)
        elif not isinstance(target, dict):  # a dict's state is its attributes, which no checkpoint needs
            raise RefusedPickleError(f"it sets the state of {_describe(target)}")

    def _op_binpersid(self, _: None) -> None:
        if self._persistent is None:
            raise RefusedPickleError("it refers to something outside itself")
        self._push(self._persistent(self._pop()))


def _describe(value: Any) -> str:
    if isinstance(value, Inert):
        return f"an object of {value.name}"
    return str(value) if isinstance(value, Name) else f"a {type(value).__name__}"


def _put_items(target: dict[Any, Any], flat: list[Any]) -> None:
    if len(flat) % 2:
        raise DamagedPickleError("a key without a value")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        target[as_key(key)] = value
