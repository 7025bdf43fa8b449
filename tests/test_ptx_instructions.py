"""The interpreter of PTX on statements written by hand."""

import numpy as np
import pytest
from ptx import Module, PtxError


def run(body, *args, block=(32, 1, 1), **options):
    """Run statements that find the address of the first argument in %rd1, %tid.x in %r1."""
    text = f"""
    .visible .entry k(.param .u64 out, .param .u32 number)
    {{
        .reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<30>; .reg .b64 %rd<9>;
        ld.param.u64 %rd1, [out];
        mov.u32 %r1, %tid.x;
        mul.wide.u32 %rd2, %r1, 4;
        add.s64 %rd1, %rd1, %rd2;
        {body}
        st.global.b32 [%rd1], %r9;
        ret;
    }}
    """
    out = np.zeros(block[0], np.uint32)
    Module(text).launch("k", (1, 1, 1), block, [out, *args], **options)
    return out


def test_unknown_instruction():
    with pytest.raises(PtxError, match="unknown instruction: wgmma"):
        run("wgmma.fence.sync.aligned;")


def test_unwritten_register():
    with pytest.raises(PtxError, match=r"read before it was written: add\.s32 %r9"):
        run("add.s32 %r9, %r1, %r8;")


def test_endless_loop():
    with pytest.raises(PtxError, match="endless"):
        run("$L: add.s32 %r9, %r1, %r1; bra $L;", max_steps=1000)


def test_half_a_warp_in_a_loop_gives_way_with_the_other_half():
    """After many looks at memory that others change, which makes any loop give way."""
    looks = "ld.volatile.global.u32 %r2, [%rd1];" * 40
    loop = """
        setp.ge.u32 %p1, %r1, 16;
        mov.b32 %r3, 0;
        @%p1 bra $out;
        $again: add.s32 %r3, %r3, 1;
        setp.lt.u32 %p2, %r3, 5;
        @%p2 bra $again;
        $out: shfl.sync.bfly.b32 %r9, %r3, 16, 31, -1;
    """
    assert run(looks + loop).tolist() == [0] * 16 + [5] * 16


def test_registers_of_a_scope():
    body = "mov.b32 %r9, 1; { .reg .pred %r9; setp.eq.u32 %r9, %r1, 0; }"
    assert (run(body) == 1).all()


CASES = {
    "bfe.u32 %r9, %r1, 1, 3;": lambda i: i >> 1 & 7,
    "bfe.s32 %r9, %r1, 1, 3;": lambda i: ((i >> 1 & 7) ^ 4) - 4,
    "bfi.b32 %r9, %r1, -1, 4, 8;": lambda i: ~0xFF0 | i << 4,
    "brev.b32 %r9, %r1;": lambda i: int(f"{i:032b}"[::-1], 2),
    "clz.b32 %r9, %r1;": lambda i: 32 - i.bit_length(),
    "bfind.shiftamt.u32 %r9, %r1;": lambda i: 32 - i.bit_length() if i else -1,
    "popc.b32 %r9, %r1;": lambda i: i.bit_count(),
    "mul.hi.u32 %r9, %r1, -1;": lambda i: i * 0xFFFFFFFF >> 32,
    "mul.hi.s32 %r9, %r1, -1;": lambda i: -i >> 32,
    "sub.s32 %r2, %r1, 9; div.s32 %r9, %r2, 4;": lambda i: int((i - 9) / 4),
    "sub.s32 %r2, %r1, 9; rem.s32 %r9, %r2, 4;": lambda i: i - 9 - 4 * int((i - 9) / 4),
    "sub.s32 %r2, %r1, 9; shr.s32 %r9, %r2, %r1;": lambda i: i - 9 >> i,
    "shl.b32 %r9, 1, %r1;": lambda i: 1 << i,
    "add.s32 %r2, %r1, 16; shl.b32 %r9, 1, %r2;": lambda i: 1 << i + 16,
    "prmt.b32 %r9, %r1, 0x80, 0xC40;": lambda i: 0xFF8000 + i * 0x01000001,
    "shf.l.wrap.b32 %r9, -1, %r1, 4;": lambda i: i << 4 | 15,
    "lop3.b32 %r9, %r1, 12, 10, 0xEA;": lambda i: i & 12 | 10,
    # Narrow integers are extended by their sign.
    "sub.s32 %r2, %r1, 9; cvt.s8.s32 %rs1, %r2; cvt.s32.s8 %r9, %rs1;": lambda i: i - 9,
    "redux.sync.add.s32 %r9, %r1, -1;": lambda i: 496,
    "shfl.sync.up.b32 %r9|%p1, %r1, 1, 0, -1;": lambda i: max(i - 1, 0),
    "shfl.sync.idx.b32 %r9, %r1, 3, 0x181f, -1;": lambda i: i // 8 * 8 + 3,
    "and.b32 %r2, %r1, 3; match.any.sync.b32 %r9, %r2, -1;": lambda i: 0x11111111 << i % 4,
    "setp.lt.u32 %p1, %r1, 5; vote.sync.ballot.b32 %r9, %p1, -1;": lambda i: 31,
    "mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r9, {%rs2, %rs1};": lambda i: i << 16,
    # Small integers are exact in bf16, the upper half of fp32.
    "cvt.rn.f32.u32 %r2, %r1; cvt.rn.bf16.f32 %rs1, %r2; mov.b32 %r9, {%rs1, 0};": (
        lambda i: np.float32(i).view(np.uint32) >> 16
    ),
    # 2^32 times the lane is out of range for all lanes but the first.
    "cvt.rn.f32.u32 %r2, %r1; mul.f32 %r2, %r2, 0f4F800000; cvt.rzi.s32.f32 %r9, %r2;": (
        lambda i: 0x7FFFFFFF if i else 0
    ),
    # The two sides of a branch run one after another and meet again behind it.
    """setp.lt.u32 %p1, %r1, 5;
    @%p1 bra $A;
    activemask.b32 %r9;
    bra $B;
    $A: activemask.b32 %r9;
    $B: activemask.b32 %r2;
    add.s32 %r9, %r9, %r2;""": lambda i: (0x1F if i < 5 else 0xFFFFFFE0) - 1,
    # The lanes above 20 leave the loop one by one.
    "mov.b32 %r9, 0; $L: add.s32 %r9, %r9, 1; setp.lt.s32 %p1, %r9, %r1; @%p1 bra $L;": (
        lambda i: max(i, 1)
    ),
    "setp.gt.u32 %p1, %r1, 7; mov.b32 %r9, 1; @%p1 mov.b32 %r9, 2;": lambda i: 1 + (i > 7),
    # Infinity is a number; NaN compares with nothing.
    "setp.num.f32 %p1, 0f7F800000, 0f7F800000; selp.b32 %r9, 1, 2, %p1;": lambda i: 1,
    "setp.ne.f32 %p1, 0f7FC00000, 0f00000000; selp.b32 %r9, 1, 2, %p1;": lambda i: 2,
    "setp.neu.f32 %p1, 0f7FC00000, 0f00000000; selp.b32 %r9, 1, 2, %p1;": lambda i: 1,
    "max.f32 %r9, 0f7FC00000, 0f3F800000;": lambda i: 0x3F800000,
    "max.NaN.f32 %r2, 0f7FC00000, 0f3F800000; testp.notanumber.f32 %p1, %r2;"
    " selp.b32 %r9, 1, 2, %p1;": lambda i: 1,
    # A product that only a fused multiply-add keeps.
    "fma.rn.f32 %r9, 0f3F800001, 0f3F800001, 0fBF800002;": lambda i: 0x28800000,
}


@pytest.mark.parametrize("body", CASES)
def test_instruction(body):
    want = [int(CASES[body](i)) & 0xFFFFFFFF for i in range(32)]
    assert run(body).tolist() == want


@pytest.mark.parametrize("kind", ["s8", "u8"])
@pytest.mark.parametrize("register", range(4))
def test_product_of_bytes(kind, register):
    """Against the layout of fragments as the manual words it, element by element."""
    body = f"""
        mul.lo.s32 %r10, %r1, 0x13579BDF;  mul.lo.s32 %r11, %r1, 0x2468ACE1;
        mul.lo.s32 %r12, %r1, 0x3579BDF1;  mul.lo.s32 %r13, %r1, 0x468ACE13;
        mul.lo.s32 %r14, %r1, 0x579BDF13;  mul.lo.s32 %r15, %r1, 0x68ACE135;
        mma.sync.aligned.m16n8k32.row.col.satfinite.s32.{kind}.{kind}.s32
            {{%r20, %r21, %r22, %r23}}, {{%r10, %r11, %r12, %r13}}, {{%r14, %r15}},
            {{%r1, %r1, %r1, %r1}};
        mov.b32 %r9, %r{20 + register};
    """
    factors = [0x13579BDF, 0x2468ACE1, 0x3579BDF1, 0x468ACE13, 0x579BDF13, 0x68ACE135]
    words = (np.arange(32)[:, None] * np.array(factors)).astype(np.uint32)
    elements = words.view(np.int8 if kind == "s8" else np.uint8).reshape(32, 24).astype(int)
    a, b = np.zeros((16, 32), int), np.zeros((32, 8), int)
    for lane in range(32):
        group, thread = lane // 4, lane % 4
        for i in range(16):
            row = group if i < 4 or 8 <= i < 12 else group + 8
            a[row, thread * 4 + i % 4 + (0 if i < 8 else 16)] = elements[lane, i]
        for i in range(8):
            b[thread * 4 + i % 4 + (0 if i < 4 else 16), group] = elements[lane, 16 + i]
    product = a @ b
    wanted = [
        product[lane // 4 + 8 * (register // 2), lane % 4 * 2 + register % 2] + lane
        for lane in range(32)
    ]
    assert run(body).view(np.int32).tolist() == wanted


@pytest.mark.parametrize("cut_off", ["", ".satfinite"])
def test_sum_of_bytes_past_32_bits(cut_off):
    body = f"""
        mov.b32 %r10, 0x7F7F7F7F; mov.b32 %r11, 0x7FFFFFF0;
        mma.sync.aligned.m16n8k32.row.col{cut_off}.s32.s8.s8.s32
            {{%r9, %r21, %r22, %r23}}, {{%r10, %r10, %r10, %r10}}, {{%r10, %r10}},
            {{%r11, %r11, %r11, %r11}};
    """
    total = 0x7FFFFFF0 + 32 * 127 * 127
    assert (run(body) == (0x7FFFFFFF if cut_off else total)).all()
