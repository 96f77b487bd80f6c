"""What tests/ptx makes of PTX. The expected values are those that the PTX ISA tells."""

import ctypes
import shutil
import struct
import subprocess
import sys
from math import inf, nan
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRANSLATE = [sys.executable, ROOT / "tests" / "ptx" / "translate.py"]
SOURCES = ("ptx/call.cpp", "ptx/entry.cpp", "simt/executor.cpp", "simt/fiber.cpp")
INCLUDES = ("tests/ptx", "tests/simt", "include", "csrc", "csrc/cuda")

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def bits32(value: float) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


def bits64(value: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def f(value: float) -> str:
    return f"0f{bits32(value):08X}"


def d(value: float) -> str:
    return f"0d{bits64(value):016X}"


# Every thread has its number in %r1, and in %rd1 the address of its own 8 bytes of the output.
# Nobody writes %r0 and %f0.
KERNEL = """\
.visible .entry {name}(
	.param .align 8 .b8 {name}_param_0[8]
)
.maxntid 64, 1, 1
{{
	.local .align 8 .b8 	__local_depot0[16];
	.reg .pred 	%p<9>;
	.reg .b16 	%rs<9>;
	.reg .b32 	%r<9>;
	.reg .f32 	%f<9>;
	.reg .b64 	%rd<9>;
	.reg .f64 	%fd<9>;
	ld.param.u64 	%rd1, [{name}_param_0];
	cvta.to.global.u64 	%rd1, %rd1;
	mov.u32 	%r1, %tid.x;
	mul.wide.u32 	%rd2, %r1, 8;
	add.s64 	%rd1, %rd1, %rd2;
	{body}
	ret;
}}
"""
HEAD = """\
.version 9.0
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 shared_bytes[];
"""


def stored(register: str) -> str:
    """The instructions that put a register into the output."""
    kind = register.rstrip("0123456789")
    if kind == "%p":
        return f"selp.u32 %r8, 1, 0, {register};\n\tst.global.u32 [%rd1], %r8;"
    suffix = {"%rs": "u16", "%r": "u32", "%f": "f32", "%rd": "u64", "%fd": "f64"}[kind]
    return f"st.global.{suffix} [%rd1], {register};"


# ---- one instruction of one thread ---------------------------------------------------------------

INSTRUCTIONS = {
    # Shifts stop at the width.
    "shl.b32 %r2, 1, 31": 0x8000_0000,
    "shl.b32 %r2, 1, 32": 0,
    "shl.b64 %rd2, 3, 33": 0x6_0000_0000,
    "shl.b64 %rd2, 1, 64": 0,
    "shr.u32 %r2, 0x80000000, 31": 1,
    "shr.u32 %r2, 0x80000000, 256": 0,
    "shr.s32 %r2, -8, 1": 2**32 - 4,
    "shr.s32 %r2, -8, 32": 2**32 - 1,
    "shr.s64 %rd2, -8, 64": 2**64 - 1,
    "shr.s64 %rd2, 8, 64": 0,
    # Integers.
    "add.s32 %r2, 2147483647, 1": 0x8000_0000,
    "sub.s64 %rd2, 1, 2": 2**64 - 1,
    "mul.lo.s32 %r2, 65537, 65537": 131073,
    "mul.wide.s32 %rd2, -2, 3": 2**64 - 6,
    "mul.wide.u32 %rd2, 0xffffffff, 2": 0x1_FFFF_FFFE,
    "mul.wide.u16 %r2, 0xffff, 0xffff": 0xFFFE_0001,
    "mad.lo.s32 %r2, -2, 3, 7": 1,
    "div.s32 %r2, -7, 2": 2**32 - 3,
    "rem.s32 %r2, -7, 2": 2**32 - 1,
    "div.u32 %r2, -7, 2": 0x7FFF_FFFC,
    "div.u32 %r2, 5, -1": 0,
    "div.s32 %r2, 5, -1": 2**32 - 5,
    "min.s32 %r2, -1, 1": 2**32 - 1,
    "min.u32 %r2, -1, 1": 1,
    "max.s64 %rd2, -1, 1": 1,
    "neg.s32 %r2, 5": 2**32 - 5,
    "abs.s32 %r2, -5": 5,
    "not.b32 %r2, 0x0f0f0f0f": 0xF0F0_F0F0,
    "and.b64 %rd2, -1, -4294967296": 0xFFFF_FFFF_0000_0000,
    "bfi.b32 %r2, 0xff, 0, 4, 8": 0xFF0,
    "bfi.b32 %r2, 0, -1, 4, 28": 0xF,
    "bfi.b32 %r2, -1, 0, 28, 8": 0xF000_0000,
    "bfi.b32 %r2, 5, 9, 0, 0": 9,
    "bfi.b32 %r2, 5, 9, 0, 32": 5,
    "bfi.b32 %r2, 5, 9, 32, 4": 9,
    # Moves of bits.
    f"mov.b32 %r2, {f(1)}": 0x3F80_0000,
    "mov.b64 %rd2, {1, 2}": 0x2_0000_0001,
    "mov.b32 %r2, {0x1234, 0x5678}": 0x5678_1234,
    "selp.b32 %r2, 1, 2, 0": 2,
    # What nobody has written.
    "mov.u32 %r2, %r0": 2**32 - 1,
    "setp.nan.f32 %p1, %f0, %f0": 1,
    # Conversions: by the sign of the source, and saturating from floats.
    "cvt.s64.s32 %rd2, -1": 2**64 - 1,
    "cvt.u64.u32 %rd2, -1": 2**32 - 1,
    "cvt.s32.s8 %r2, 0x180": 2**32 - 128,
    "cvt.u32.u8 %r2, 0x180": 0x80,
    "cvt.u16.u32 %rs2, 0x12345678": 0x5678,
    "cvt.u8.u32 %rs2, 0x1281": 0x81,
    "cvt.s8.s32 %r2, 0x1281": 2**32 - 127,
    "cvt.rn.f32.u32 %f2, 16777217": bits32(16777216),
    "cvt.rn.f64.s64 %fd2, -3": bits64(-3),
    f"cvt.f64.f32 %fd2, {f(1.5)}": bits64(1.5),
    "mov.u16 %rs1, 0x3c00; cvt.f32.f16 %f2, %rs1": bits32(1),
    "mov.u16 %rs1, 0x8001; cvt.f32.f16 %f2, %rs1": bits32(-(2.0**-24)),
    "mov.u16 %rs1, 0xfc00; cvt.f32.f16 %f2, %rs1": bits32(-inf),
    f"cvt.rzi.s64.f64 %rd2, {d(-1.9)}": 2**64 - 1,
    f"cvt.rzi.s64.f64 %rd2, {d(nan)}": 2**63,
    f"cvt.rzi.s64.f64 %rd2, {d(inf)}": 2**63 - 1,
    f"cvt.rzi.s64.f64 %rd2, {d(-inf)}": 2**63,
    f"cvt.rzi.s64.f64 %rd2, {d(2.0**63)}": 2**63 - 1,
    f"cvt.rzi.s64.f32 %rd2, {f(nan)}": 2**63,
    f"cvt.rzi.s32.f64 %r2, {d(nan)}": 2**31,
    f"cvt.rzi.s32.f32 %r2, {f(nan)}": 0,
    f"cvt.rzi.s32.f32 %r2, {f(3e9)}": 2**31 - 1,
    f"cvt.rzi.u32.f32 %r2, {f(-1.5)}": 0,
    f"cvt.rzi.u32.f32 %r2, {f(3e9)}": 3_000_000_000,
    f"cvt.rmi.f64.f64 %fd2, {d(-1.5)}": bits64(-2),
    f"cvt.sat.f32.f32 %f2, {f(nan)}": 0,
    f"cvt.sat.f32.f32 %f2, {f(-1)}": 0,
    f"cvt.sat.f32.f32 %f2, {f(0.25)}": bits32(0.25),
    f"cvt.sat.f32.f32 %f2, {f(2)}": bits32(1),
    # Of a number and a NaN the number; -0 is the smaller zero.
    f"min.f32 %f2, {f(nan)}, {f(1)}": bits32(1),
    f"min.f32 %f2, {f(1)}, {f(nan)}": bits32(1),
    f"max.f32 %f2, {f(nan)}, {f(1)}": bits32(1),
    f"max.f64 %fd2, {d(1)}, {d(nan)}": bits64(1),
    f"min.f32 %f2, {f(nan)}, {f(nan)}": 0x7FFF_FFFF,
    f"max.f32 %f2, {f(nan)}, {f(nan)}": 0x7FFF_FFFF,
    f"min.f32 %f2, {f(0.0)}, {f(-0.0)}": bits32(-0.0),
    f"min.f32 %f2, {f(-0.0)}, {f(0.0)}": bits32(-0.0),
    f"max.f32 %f2, {f(0.0)}, {f(-0.0)}": 0,
    f"max.f32 %f2, {f(-0.0)}, {f(0.0)}": 0,
    f"max.f32 %f2, {f(-3)}, {f(-2)}": bits32(-2),
    # 1 - 2^-30 lies between 1 and the float below; (1 + 2^-23)^2 a little above 1 + 2^-22.
    f"fma.rn.f32 %f2, {f(1)}, {f(1)}, {f(-(2.0**-30))}": bits32(1),
    f"fma.rm.f32 %f2, {f(1)}, {f(1)}, {f(-(2.0**-30))}": 0x3F7F_FFFF,
    "fma.rm.f32 %f2, 0f3F800001, 0f3F800001, 0f00000000": 0x3F80_0002,
    "fma.rm.f32 %f2, 0f3F800001, 0fBF800001, 0f00000000": 0xBF80_0003,
    "fma.rn.f32 %f2, 0f3F800001, 0f3F800001, 0fBF800002": bits32(2.0**-46),
    f"ex2.approx.ftz.f32 %f2, {f(3)}": bits32(8),
    f"ex2.approx.ftz.f32 %f2, {f(-126)}": 0x0080_0000,
    f"ex2.approx.ftz.f32 %f2, {f(-127)}": 0,
    f"ex2.approx.ftz.f32 %f2, {f(-inf)}": 0,
    f"rcp.rn.f64 %fd2, {d(3)}": bits64(1 / 3),
    f"sqrt.rn.f64 %fd2, {d(2)}": bits64(2**0.5),
    f"div.rn.f32 %f2, {f(1)}, {f(0.0)}": bits32(inf),
    f"neg.f32 %f2, {f(0.0)}": bits32(-0.0),
    f"abs.f64 %fd2, {d(-2)}": bits64(2),
    "setp.lt.s32 %p1, -1, 1": 1,
    "setp.lt.u32 %p1, -1, 1": 0,
    "setp.hi.u32 %p1, -1, 1": 1,
}  # fmt: skip
# Of 1 and 2, of 1 and 1, of 1 and NaN.
COMPARISONS = {
    "eq": (0, 1, 0),
    "ne": (1, 0, 0),
    "lt": (1, 0, 0),
    "le": (1, 1, 0),
    "gt": (0, 0, 0),
    "ge": (0, 1, 0),
    "equ": (0, 1, 1),
    "neu": (1, 0, 1),
    "ltu": (1, 0, 1),
    "leu": (1, 1, 1),
    "gtu": (0, 0, 1),
    "geu": (0, 1, 1),
    "num": (1, 1, 0),
    "nan": (0, 0, 1),
}
for _name, _results in COMPARISONS.items():
    for _other, _result in zip((2, 1, nan), _results, strict=True):
        INSTRUCTIONS[f"setp.{_name}.f32 %p1, {f(1)}, {f(_other)}"] = _result

# ---- what takes more than one --------------------------------------------------------------------

SHUFFLE = """
    shfl.sync.{} %r2|%p1, %r1, {}, -1;
    selp.u32 %r3, 1, 0, %p1;
    st.global.v2.u32 [%rd1], {{%r2, %r3}};
"""
BODIES = {
    "shuffle_up": SHUFFLE.format("up.b32", "1, 0"),
    "shuffle_down": SHUFFLE.format("down.b32", "1, 31"),
    "shuffle_bfly": SHUFFLE.format("bfly.b32", "8, 0x181f"),  # in groups of 8
    "shuffle_idx": SHUFFLE.format("idx.b32", "3, 0x181f"),
    "rounding_mode": """
        mov.u32 %r2, %ntid.x;
        cvt.rn.f32.u32 %f1, %r2;
        fma.rm.f32 %f2, %f1, %f1, %f1;
        add.f32 %f3, %f1, 0fB0800000;
        st.global.f32 [%rd1], %f3;
    """,
    "votes": """
        {
        .reg .pred %p1;
        setp.lt.u32 %p1, %r1, 5;
        bar.red.popc.u32 %r2, 0, %p1;
        bar.red.or.pred %p2, 0, %p1;
        bar.red.and.pred %p3, 0, %p1;
        }
        @%p2 add.s32 %r2, %r2, 100;
        @!%p3 add.s32 %r2, %r2, 1000;
        st.global.u32 [%rd1], %r2;
    """,
    "atomic": """
        mov.u32 %r2, shared_bytes;
        st.shared.u32 [shared_bytes+4], 0;
        bar.sync 0;
        atom.shared.add.u32 %r3, [%r2+4], %r1;
        bar.sync 0;
        ld.shared.u32 %r4, [%r2+4];
        st.global.u32 [%rd1], %r4;
    """,
    "branch": """
        setp.eq.s32 %p1, %r1, 0;
        mov.u32 %r2, 1;
        @!%p1 bra $L__BB0_1;
        mov.u32 %r2, 2;
        $L__BB0_1:
        st.global.u32 [%rd1], %r2;
    """,
    "unpack": """
        mov.b64 %rd2, 0x200000001;
        mov.b64 {%r2, %r3}, %rd2;
        shl.b32 %r2, %r2, 4;
        add.s32 %r2, %r2, %r3;
        st.global.u32 [%rd1], %r2;
    """,
    "narrow": """
        st.shared.u32 [shared_bytes], 0x8081;
        ld.shared.s8 %r2, [shared_bytes];
        ld.shared.u8 %r3, [shared_bytes+1];
        st.global.v2.u32 [%rd1], {%r2, %r3};
    """,
    "generic": """
        mov.u64 %rd2, shared_bytes;
        cvta.shared.u64 %rd3, %rd2;
        st.u32 [%rd3+8], 7;
        cvta.to.shared.u64 %rd4, %rd3;
        ld.shared.u32 %r2, [%rd4+8];
        st.global.u32 [%rd1], %r2;
    """,
    "depot": """
        mov.u64 %rd2, __local_depot0;
        st.local.u32 [%rd2+4], 7;
        cvta.local.u64 %rd3, %rd2;
        ld.v2.u32 {%r2, %r3}, [%rd3];
        st.global.v2.u32 [%rd1], {%r2, %r3};
    """,
    "copy": """
        setp.ne.s32 %p1, %r1, 0;
        @%p1 ret;
        st.global.u64 [%rd1], 5;
        mov.u32 %r2, 16;
        cp.async.cg.shared.global [%r2], [%rd1], 16;
        cp.async.commit_group;
        ld.shared.u32 %r3, [%r2];
        cp.async.wait_group 0;
        ld.shared.u32 %r4, [%r2];
        st.global.v2.u32 [%rd1], {%r3, %r4};
    """,
    # One element of each matrix is not 0: 3 in a's first row, 2 in b's first column.
    "product": """
        setp.eq.s32 %p1, %r1, 0;
        selp.b32 %r2, 0x4200, 0, %p1;
        selp.b32 %r3, 0x4000, 0, %p1;
        mov.f32 %f1, 0f00000000;
        mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f2, %f3, %f4, %f5},
            {%r2, 0}, {%r3}, {%f1, %f1, %f1, %f1};
        st.global.v2.f32 [%rd1], {%f2, %f3};
    """,
    "product_and_sum": """
        mov.f32 %f1, 0f41200000;
        mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f2, %f3, %f4, %f5},
            {0, 0}, {0}, {%f1, %f1, %f1, %f1};
    """,
    "trap": """
        setp.eq.s32 %p1, %r1, 3;
        @%p1 trap;
    """,
    "divided_by_zero": "rem.u32 %r2, 1, %r1;",
    "misaligned_shared": "ld.shared.v2.u32 {%r2, %r3}, [shared_bytes+4];",
    "misaligned_global": "ld.global.u32 %r2, [%rd1+2];",
    "misaligned_param": "ld.param.u32 %r2, [misaligned_param_param_0+1];",
    "misaligned_copy": """
        mov.u32 %r2, 8;
        cp.async.cg.shared.global [%r2], [%rd1], 16;
    """,
    "beyond_shared": """
        st.shared.u32 [shared_bytes+60], 1;
        st.shared.u32 [shared_bytes+64], 1;
    """,
    "before_shared": """
        mov.u32 %r2, 0;
        ld.shared.u8 %r3, [%r2+-1];
    """,
    "beyond_param": "ld.param.u32 %r2, [beyond_param_param_0+8];",
    "beyond_depot": """
        mov.u64 %rd2, __local_depot0;
        st.local.u32 [%rd2+16], 7;
    """,
    "null": """
        mov.u64 %rd2, 0;
        ld.global.u8 %r2, [%rd2];
    """,
    "divergent": """
        setp.lt.u32 %p1, %r1, 7;
        @%p1 bra $L__BB0_1;
        bar.sync 0;
        $L__BB0_1:
    """,
}

NAMES = {text: f"instruction_{i}" for i, text in enumerate(INSTRUCTIONS)}


def result(instruction: str) -> str:
    """Its register."""
    return instruction.split(";")[-1].split()[1].strip(",")


@pytest.fixture(scope="module")
def snippets() -> str:
    """The PTX of all kernels."""
    bodies = {NAMES[text]: f"{text};\n\t{stored(result(text))}" for text in INSTRUCTIONS} | BODIES
    return HEAD + "".join(KERNEL.format(name=name, body=body) for name, body in bodies.items())


@pytest.fixture(scope="module")
def library(snippets, tmp_path_factory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("ptx")
    (folder / "snippets.ptx").write_text(snippets)
    subprocess.run([*TRANSLATE, folder, folder / "snippets.ptx"], check=True)
    flags = ["-std=c++20", "-w", "-O1", "-ffp-contract=off", "-fwrapv", "-fno-strict-aliasing"]
    # So that the processor computes what is asked here, and not the compiler.
    flags += ["-fno-inline", *(f"-I{ROOT / folder}" for folder in INCLUDES)]
    sources = [folder / "snippets.cpp", *(ROOT / "tests" / source for source in SOURCES)]
    to = folder / "snippets.so"
    subprocess.run(["g++", *flags, "-shared", "-fPIC", *sources, "-o", to], check=True)
    loaded = ctypes.CDLL(str(to))
    loaded.ptx_call.restype = ctypes.c_char_p
    return loaded


@pytest.fixture
def call(library):
    """``call(name, threads)`` is the error of a kernel and the 64 bits of every thread's output."""

    def run(name: str, threads: int = 32, param_bytes: int = 8) -> tuple[str, list[int]]:
        # 16-byte aligned, for copies.
        memory = ctypes.create_string_buffer(b"\xff" * (8 * threads + 16))
        at = -ctypes.addressof(memory) % 16
        params = (ctypes.c_uint64 * 2)(ctypes.addressof(memory) + at)
        error = library.ptx_call(name.encode(), params, ctypes.c_size_t(param_bytes), threads, 64)
        output = (ctypes.c_uint64 * threads).from_buffer(memory, at)
        return error.decode(), list(output)

    return run


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_an_instruction(instruction, call):
    error, output = call(NAMES[instruction])
    bits = {"%p": 32, "%r": 32, "%f": 32, "%rs": 16, "%rd": 64, "%fd": 64}
    kind = result(instruction).rstrip("0123456789")
    assert error == ""
    assert output[0] % 2 ** bits[kind] == INSTRUCTIONS[instruction]


def low_and_high(output: list[int]) -> list[tuple[int, int]]:
    return [(value % 2**32, value >> 32) for value in output]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("shuffle_up", lambda lane: lane - 1 if lane > 0 else None),
        ("shuffle_down", lambda lane: lane + 1 if lane < 31 else None),
        # From an earlier group, but not from a later one.
        ("shuffle_bfly", lambda lane: lane - 8 if lane // 8 % 2 == 1 else None),
        ("shuffle_idx", lambda lane: lane // 8 * 8 + 3),
    ],
)
def test_shuffles_at_the_edges(name, source, call):
    """A lane without a source gets its own value, and a false predicate."""
    error, output = call(name)
    sources = [source(lane) for lane in range(32)]
    assert error == ""
    assert low_and_high(output) == [
        (lane if source is None else source, int(source is not None))
        for lane, source in enumerate(sources)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("votes", [1105] * 64),
        ("atomic", [sum(range(64))] * 64),
        ("branch", [2] + [1] * 63),
        ("unpack", [0x12] * 64),
        ("generic", [7] * 64),
        ("rounding_mode", [bits32(64)] * 64),  # 64 - 2^-30, to the nearest again
    ],
)
def test_several_instructions(name, expected, call):
    error, output = call(name, threads=64)
    assert error == ""
    assert [value % 2**32 for value in output] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("narrow", (2**32 - 127, 0x80)),
        ("depot", (2**32 - 1, 7)),
        ("copy", (2**32 - 1, 5)),
        ("product", (bits32(6), 0)),
    ],
)
def test_two_values(name, expected, call):
    error, output = call(name)
    assert error == ""
    assert low_and_high(output)[0] == expected


def line_of(snippets: str, name: str, text: str) -> int:
    kernel = snippets.index(f".entry {name}(")
    return snippets.count("\n", 0, snippets.index(text, kernel)) + 1


@pytest.mark.parametrize(
    ("name", "instruction", "message"),
    [
        ("trap", "@%p1 trap", "kernel snippet, block (0, 0, 0), thread 3: trap"),
        ("misaligned_shared", "ld.shared", "a misaligned access of 8 bytes at 0x4"),
        ("misaligned_global", "ld.global", "a misaligned access of 4 bytes"),
        ("misaligned_param", "ld.param.u32", "a misaligned access of 4 bytes"),
        ("misaligned_copy", "cp.async", "a misaligned access of 16 bytes at 0x8"),
        (
            "beyond_shared",
            "st.shared.u32 [shared_bytes+64]",
            "an access out of bounds of 4 bytes at 0x40",
        ),
        ("before_shared", "ld.shared", "an access out of bounds of 1 bytes at 0xffffffff"),
        ("beyond_param", "ld.param.u32", "an access out of bounds of 4 bytes"),
        ("beyond_depot", "st.local", "an access out of bounds of 4 bytes"),
        ("null", "ld.global", "an access out of bounds of 1 bytes at 0x0"),
        ("divergent", "bar.sync", "threads 7-31: at bar.sync"),
    ],
)
def test_what_a_gpu_would_not_do(name, instruction, message, call, snippets):
    """The error names the line of the PTX."""
    error, _ = call(name)
    assert message in error
    assert f"(snippets.ptx:{line_of(snippets, name, instruction)})" in error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("divided_by_zero", "thread 0: a division by zero"),
        ("product_and_sum", "mma adds to a sum that is not 0"),
    ],
)
def test_what_is_left_open(name, message, call):
    assert message in call(name)[0]


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ({"name": "nowhere"}, "no PTX has its symbol nowhere"),
        ({"name": "branch", "threads": 96}, "96 threads, but __launch_bounds__ promised 64"),
        ({"name": "branch", "param_bytes": 16}, "16 bytes on the host, 8 on the device"),
        ({"name": "branch", "threads": 20}, "a block is a multiple of 32 threads"),
    ],
)
def test_launches_that_a_gpu_would_refuse(launch, message, call):
    assert message in call(**launch)[0]


@pytest.mark.parametrize(
    "statement",
    [
        "popc.b32 %r2, %r1;",
        "fma.rz.f32 %f1, %f2, %f3, %f4;",
        "add.sat.s32 %r2, %r1, 1;",
        "exit;",
        "bar.sync 0, 32;",
        "setp.eq.s32 %p1|%p2, %r1, 0;",
        "mov.u32 %r2, %clock;",
        "add.s32 %x2, %r1, 1;",
        ".shared .align 4 .b8 table[4];",
    ],
)
def test_what_is_not_known_is_an_error(statement, tmp_path):
    ptx = HEAD + KERNEL.format(name="unknown", body=f"// a comment\n\t{statement}")
    (tmp_path / "unknown.ptx").write_text(ptx)
    done = subprocess.run(
        [*TRANSLATE, tmp_path, tmp_path / "unknown.ptx"], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"unknown.ptx:{line_of(ptx, 'unknown', statement)}: " in done.stderr
    assert statement in done.stderr
    assert not (tmp_path / "unknown.cpp").exists()
