"""Translates PTX, which is what nvcc makes of the kernels, into C++ for the executor of tests/simt.

    translate.py FOLDER FILE.ptx ...    writes FOLDER/FILE.cpp for each

An entry becomes a function, a register a local variable, a label a label; an instruction becomes
the statement that the tables below have for it, on the line that it has in the PTX. So compilers,
debuggers and the executor's errors speak of lines of the PTX. What C++ has no operator for stands
in ptx.h. What is in no table is an error, never skipped.
"""

import re
import sys
from functools import cache
from pathlib import Path

# ---- instructions --------------------------------------------------------------------------------
#
# A pattern's group <t> is the type of the operands, and of the result unless there is an <r>. In a
# template {a}, {b}, ... are the operands after the destination, as values of type <t>; {a:u32} is
# one as a u32. {v} is <t>, or a vector of <n> of them.

INTEGER = "[bsu](?:8|16|32|64)"
FLOAT = "f(?:32|64)"
INT = f"(?P<t>{INTEGER})"
FLT = f"(?P<t>{FLOAT})"
ANY = f"(?P<t>{INTEGER}|{FLOAT})"
BITS = f"(?P<t>{INTEGER}|pred)"
SPACE = r"(?:\.(?P<space>global|shared|local|param))?"
VECTOR = r"(?:\.v(?P<n>[24]))?"
MMA = r"mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.(?P<number>f16|bf16)\.(?P=number)\.f32"

# Of a NaN all are false but those that end in u, and nan. In C++, != is true.
ORDERED = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
NEGATED = {"neu": "==", "geu": "<", "gtu": "<=", "ltu": ">=", "leu": ">"}
COMPARISONS = {
    **{name: f"{{a}} {sign} {{b}}" for name, sign in {**ORDERED, **UNSIGNED}.items()},
    **{name: f"!({{a}} {sign} {{b}})" for name, sign in NEGATED.items()},
    "ne": "{a} < {b} || {a} > {b}",
    "equ": "!({a} < {b} || {a} > {b})",
    "num": "{a} == {a} && {b} == {b}",
    "nan": "{a} != {a} || {b} != {b}",
}

# What an instruction puts into its destination.
VALUES = {
    # arithmetic
    rf"add(?:\.rn)?\.{ANY}": "{a} + {b}",
    rf"sub(?:\.rn)?\.{ANY}": "{a} - {b}",
    rf"mul\.lo\.{INT}": "{a} * {b}",
    rf"mul(?:\.rn)?\.{FLT}": "{a} * {b}",
    rf"mul\.wide\.{INT}": "wide({a}) * wide({b})",
    rf"mad\.lo\.{INT}": "{a} * {b} + {c}",
    rf"(?P<f>div|rem)\.{INT}": "{f}({a}, {b})",
    rf"(?P<f>min|max)\.{ANY}": "{f}({a}, {b})",
    rf"neg\.{ANY}": "-{a}",
    rf"abs\.{ANY}": "abs({a})",
    rf"div\.rn\.{FLT}": "{a} / {b}",
    rf"rcp\.rn\.{FLT}": "1 / {a}",
    rf"sqrt\.rn\.{FLT}": "std::sqrt({a})",
    rf"fma\.rn\.{FLT}": "std::fma({a}, {b}, {c})",
    r"fma\.rm\.(?P<t>f32)": "fma_down({a}, {b}, {c})",
    r"ex2\.approx\.ftz\.(?P<t>f32)": "ex2_ftz({a})",
    # bits
    rf"and\.{BITS}": "{a} & {b}",
    rf"or\.{BITS}": "{a} | {b}",
    rf"xor\.{BITS}": "{a} ^ {b}",
    rf"not\.{INT}": "~{a}",
    r"not\.(?P<t>pred)": "!{a}",
    rf"(?P<f>shl|shr)\.{INT}": "{f}({a}, {b:u32})",
    rf"bfi\.{INT}": "bfi({a}, {b}, {c:u32}, {d:u32})",
    # choice
    **{rf"setp\.{name}\.{ANY}": comparison for name, comparison in COMPARISONS.items()},
    rf"selp\.{ANY}": "{c:pred} ? {a} : {b}",
    # conversion
    rf"mov\.(?P<t>{INTEGER}|{FLOAT}|pred)": "{a}",
    rf"cvt\.(?P<r>{INTEGER})\.{INT}": "as<{r}>({a})",
    rf"cvt\.rn\.(?P<r>{FLOAT})\.{INT}": "static_cast<{r}>({a})",
    r"cvt\.(?P<r>f64)\.(?P<t>f32)": "static_cast<{r}>({a})",
    r"cvt\.rn\.(?P<r>f32)\.(?P<t>f64)": "static_cast<{r}>({a})",
    r"cvt\.(?P<r>f32)\.f16": "half({a:u16})",
    r"cvt\.sat\.f32\.(?P<t>f32)": "saturate({a})",
    rf"cvt\.rzi\.(?P<r>{INTEGER})\.{FLT}": "to_integer<{r}>(std::trunc({a}))",
    rf"cvt\.rmi\.{FLT}\.(?P=t)": "std::floor({a})",
    # memory
    rf"ld{SPACE}(?:\.nc)?{VECTOR}\.{ANY}": "{space}.at<{v}>({a})",
    rf"atom{SPACE}\.add\.{INT}": "add_to({space}.at<{t}>({a}), {b})",
    rf"cvta{SPACE}\.(?P<t>u64)": "{a} + {space}.shift",
    rf"cvta\.to{SPACE}\.(?P<t>u64)": "{a} - {space}.shift",
    # the warp and the block
    r"shfl\.sync\.(?P<mode>up|down|bfly|idx)\.(?P<t>b32)": "shfl<{mode}>({a}, {b}, {c}, {d}, {p})",
    r"bar\.red\.or\.(?P<t>pred)": 'bar<{a:u32}>("bar.red.or", {b}) != 0',
    r"bar\.red\.and\.(?P<t>pred)": 'bar<{a:u32}>("bar.red.and", !{b}) == 0',
    r"bar\.red\.popc\.(?P<t>u32)": 'bar<{a:u32}>("bar.red.popc", {b:pred})',
    MMA: "mma<{number}>({a:u32}, {b:u32}, {c:f32})",
}

# What it does, without one: every operand is a source.
EFFECTS = {
    rf"st{SPACE}{VECTOR}\.{ANY}": "{space}.at<{v}>({a}) = {b}",
    r"cp\.async\.cg\.shared\.global": "cp_async<{c:u32}>(shared, {a}, global, {b})",
    r"cp\.async\.commit_group": "simt::copy_commit()",
    r"cp\.async\.wait_group": "simt::copy_wait({a:u32})",
    r"bar\.sync": 'bar<{a:u32}>("bar.sync", false)',
    r"bar\.warp\.sync": "bar_warp({a:u32})",
    r"bra(?:\.uni)?": "goto {a}",
    r"ret": "return",
    r"trap": "trap()",
}

SPECIAL = {"%tid": "threadIdx", "%ntid": "blockDim", "%ctaid": "blockIdx", "%nctaid": "gridDim"}


@cache
def rule(opcode: str) -> tuple[str, dict[str, str | None], bool]:
    """An instruction's template, the groups of its pattern, and whether it has a destination."""
    for table, has_destination in ((VALUES, True), (EFFECTS, False)):
        for pattern, template in table.items():
            if match := re.fullmatch(pattern, opcode):
                return template, match.groupdict(), has_destination
    raise ValueError("this instruction is in no table of translate.py")


# ---- names and operands --------------------------------------------------------------------------


def cpp_type(name: str) -> str:
    """b32 is any 32 bits: here a u32."""
    return "u" + name[1:] if re.fullmatch(INTEGER, name) and name[0] == "b" else name


def cpp_name(name: str) -> str:
    """Of registers and labels: no name of C++ looks like it."""
    return "$" + name.lstrip("%$")


def elements(operand: str) -> list[str]:
    """Those of ``{%r1, %r2}``; none if it is not a vector."""
    return re.split(r"\s*,\s*", operand[1:-1].strip()) if operand.startswith("{") else []


class Scope:
    """What the names in a function stand for."""

    def __init__(self, symbols: dict[str, str]):
        self.symbols = symbols  # with the space that begins there
        self.registers: dict[str, str] = {}  # with their types

    def declare(self, ptx_type: str, names: str) -> str:
        """The registers ``%r<3>``, which are three, or ``%p1, %p2``."""
        kind = cpp_type(ptx_type)
        new = []
        for name, count in re.findall(r"(%?\w+)(?:<(\d+)>)?", names):
            new += [f"{name}{i}" for i in range(int(count))] if count else [name]
        self.registers |= dict.fromkeys(new, kind)
        return f"{kind} " + ", ".join(f"{cpp_name(name)} = poison<{kind}>" for name in new) + ";"

    def write(self, register: str, value: str, kind: str) -> str:
        """The statement that gives a register the value, which is of this type."""
        own = self.registers.get(register)
        if own is None:
            raise ValueError(f"{register} is no register")
        return f"{cpp_name(register)} = {value if own == kind else f'as<{own}>({value})'};"

    def read(self, operand: str, kind: str) -> str:
        """An operand as an expression of this type; of an address, as the number that it is."""
        if vector := elements(operand):
            values = ", ".join(self.read(element, kind) for element in vector)
            return f"Vector<{kind}, {len(vector)}>{{{values}}}"
        if address := re.fullmatch(r"\[([^+\]]+?)\s*(?:\+(-?\d+))?\]", operand):
            base = self.read(address[1], self.registers.get(address[1], "u64"))
            return f"{base} + {address[2]}" if address[2] else base
        if operand.startswith("!"):
            return "!" + self.read(operand[1:], kind)
        if operand.startswith("$"):
            return cpp_name(operand)
        register, _, axis = operand.partition(".")
        if operand in self.registers:
            value, own = cpp_name(operand), self.registers[operand]
        elif register in SPECIAL:
            value, own = f"{SPECIAL[register]}.{axis}", "u32"
        elif operand in self.symbols:
            value, own = f"{self.symbols[operand]}.first", "u64"
        elif bits := re.fullmatch(r"0f([0-9a-fA-F]{8})", operand):
            value, own = f"as<f32>(0x{bits[1]}u)", "f32"
        elif bits := re.fullmatch(r"0d([0-9a-fA-F]{16})", operand):
            value, own = f"as<f64>(0x{bits[1]}ull)", "f64"
        elif re.fullmatch(r"-?\d+|0x[0-9a-fA-F]+", operand):
            number = int(operand, 0)
            value, own = f"{kind}({number if abs(number) < 2**31 else hex(number % 2**64)})", kind
        else:
            raise ValueError(f"the operand {operand}")
        return value if own == kind else f"as<{kind}>({value})"


class Source:
    """A source operand in a template."""

    def __init__(self, operand: str, kind: str, scope: Scope):
        self.operand, self.kind, self.scope = operand, kind, scope

    def __format__(self, kind: str) -> str:
        return self.scope.read(self.operand, cpp_type(kind) or self.kind)


# ---- statements ----------------------------------------------------------------------------------


def instruction(opcode: str, operands: list[str], scope: Scope) -> str:
    template, groups, has_destination = rule(opcode)
    kind = cpp_type(groups.get("t") or "")
    result = "pred" if opcode.startswith("setp") else cpp_type(groups.get("r") or kind)
    target = operands.pop(0) if has_destination else ""
    target, _, flag = target.partition("|")
    parts = elements(target)
    if opcode.startswith("mov") and (vector := parts or elements(operands[0])):
        # Two registers become one of twice the bits, or one two.
        part = f"u{int(kind[1:]) // len(vector)}"
        result = f"Vector<{part}, {len(vector)}>"
        template, kind = ("as<{r}>({a})", kind) if parts else ("{a}", part)
    fields = {
        **groups,
        "t": kind,
        "r": result,
        "v": f"Vector<{kind}, {groups['n']}>" if groups.get("n") else kind,
        "space": groups.get("space") or "global",  # which a generic address is one of
        "p": cpp_name(flag or "unused"),
        **{name: Source(o, kind, scope) for name, o in zip("abcd", operands, strict=False)},
    }
    named = set(re.findall(r"\{([abcd])\b", template))
    if named != set("abcd"[: len(operands)]) or (flag and "{p}" not in template):
        raise ValueError("this instruction with these operands")
    expression = template.format(**fields)
    if not has_destination:
        return expression + ";"
    if not parts:
        return scope.write(target, expression, result)
    writes = (scope.write(part, f"value[{i}]", "") for i, part in enumerate(parts) if part != "_")
    return f"{{ const auto value = {expression}; {' '.join(writes)} }}"


def statement(text: str, scope: Scope) -> str:
    if registers := re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", text):
        return scope.declare(registers[1], registers[2])
    if depot := re.fullmatch(r"\.local\s+\.align\s+\d+\s+\.b8\s+(\w+)\[(\d+)\]", text):
        scope.symbols[depot[1]] = "local"
        return f"Depot<{depot[2]}> depot; const Window local = depot.window();"
    if re.fullmatch(r'\.pragma\s+"[^"]*"', text):
        return ""
    parts = re.fullmatch(r"(?:@(!?%\w+)\s+)?([a-z][\w.]*)\s*(.*)", text, re.DOTALL)
    if parts is None:
        raise ValueError("what translate.py does not know")
    guard, opcode, rest = parts.groups()
    condition = f"if ({scope.read(guard, 'pred')}) " if guard else ""
    operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^\s,]+", rest)
    return condition + instruction(opcode, operands, scope)


# ---- files ---------------------------------------------------------------------------------------

TOKEN = re.compile(
    r"""(?P<ignored>\.(?:version|target|address_size|file|loc)\b[^\n]* | \.section\s[^}]*\})
    | \.extern\s+\.shared\s[^;]*?(?P<shared>\w+)\[\];
    | (?:\.visible\s+)?\.entry\s+(?P<entry>\w+)\(
          \s*\.param\s+\.align\s+\d+\s+\.b8\s+(?P<param>\w+)\[(?P<bytes>\d+)\]\s*\)
          (?:\s*\.maxntid\s+(?P<threads>\d+),\s*1,\s*1\b)?(?:\s*\.minnctapersm\s+\d+)?\s*\{
    | (?P<brace>[{}])
    | (?P<label>\$?\w+):
    | (?P<statement>[^;{}][^;]*);""",
    re.VERBOSE,
)
HEAD = """\
#include "ptx.h"
namespace ptx {{
#line 1 "{name}"
"""
BEGIN = """\
static void {entry}(const Window param) {{ \
const Window shared = shared_window(), global = kGlobal; pred $unused;"""
END = """\
}} static const Entry entry_{entry}("{entry}", {entry}, {bytes}, {threads});"""


def translate(ptx: str, name: str) -> str:
    """The C++ source, which has as many lines after its head as the PTX."""
    ptx = re.sub(r"//[^\n]*", "", ptx)
    out = [HEAD.format(name=name)]
    shared: dict[str, str] = {}
    scope, depth, entry = Scope({}), 0, {}
    at = 0
    while blank := re.compile(r"\s*").match(ptx, at):
        out.append("\n" * blank[0].count("\n"))
        at = blank.end()
        if at == len(ptx):
            break
        token = TOKEN.match(ptx, at)
        try:
            if token is None:
                raise ValueError("what translate.py does not know")
            if token["shared"]:
                shared[token["shared"]] = "shared"
            elif token["entry"]:
                entry = {**token.groupdict(), "threads": token["threads"] or 1024}
                scope, depth = Scope({**shared, entry["param"]: "param"}), 1
                out.append(BEGIN.format(**entry))
            elif token["brace"]:
                depth += 1 if token["brace"] == "{" else -1
                out.append(token["brace"] if depth else END.format(**entry))
            elif token["label"]:
                out.append(f"{cpp_name(token['label'])}:;")
            elif token["statement"]:
                out.append(statement(token["statement"], scope))
        except ValueError as error:
            line = ptx.count("\n", 0, at) + 1
            sys.exit(f"{name}:{line}: {error}: {ptx[at:].splitlines()[0]}")
        out.append("\n" * token[0].count("\n"))
        at = token.end()
    return "".join(out) + "}  // namespace ptx\n"


if __name__ == "__main__":
    for path in map(Path, sys.argv[2:]):
        cpp = Path(sys.argv[1], path.with_suffix(".cpp").name)
        cpp.write_text(translate(path.read_text(), path.name))
